"""What the report says of each study, whatever it found: who claimed what, what was asked, what a figure shows."""

from interpkern.memorisation.studies import STUDIES

ORIGIN = {
    "growth": "Newgas trained models that reach zero loss at about m^2 / 2 parameters: 2 bits a parameter.",
    "map": "Newgas: d_model and d_hidden of about one size do best.",
    "budget": "Newgas gives no budget. Annesi et al. (2410.06717): gradient descent stops short of capacity.",
    "embeddings": "Newgas: optimised embeddings are about as good as random ones, a basis looks similar.",
    "tables": "Nothing was said of biased or rectangular tables.",
    "frozen": "Cover (1965): half of all labellings of 2 n points are separable with n weights.",
    "points": "Cover (1965): two points a weight of one layer. Liu (2026): 2.4 bits a parameter of a larger model, ten"
    " classes.",
    "circuits": "Newgas: the model is a kind of matrix decomposition of the table, and its circuits look incidental.",
    "quantisation": "Newgas: few bits a parameter are stored, which would explain why quantisation works so well.",
    "constructions": "Newgas found no construction above 1.58 bits a parameter.",
}
TITLES = {
    "growth": "The threshold and the law",
    "map": "The map of shapes",
    "budget": "The budget",
    "embeddings": "Embeddings",
    "tables": "Rectangular and biased tables",
    "frozen": "A frozen first layer",
    "points": "Points",
    "circuits": "Circuits",
    "quantisation": "Quantisation",
    "constructions": "Constructions",
}
CAPTIONS = {
    "growth": "Left: share of models with every fact right and the fitted curves. Right: where half of them are, with"
    " bootstrap 95 % intervals; dashed, 2 bits.",
    "map": "Share of models with every fact right, and bits by cross-entropy per parameter (P2).",
    "budget": "Bits of the table per P1 at which half of the models are solved, against updates and learning rate, with"
    " bootstrap 95 % intervals; dashed, 2 bits.",
    "embeddings": "Left: every fact right, with the fitted curves. Right: at least 95 % of the bits stored by the"
    " loss.",
    "tables": "Left: as many facts in other forms. Right: tables with other shares of ones (p), by their bits.",
    "frozen": "Only the readout: trained by Adam (adam), and solved for by a linear program (exact).",
    "points": "Gaussian points with random labels, two classes; every weight is trained.",
    "law": "Stored bits against parameters: the best shape of each size of table, and a power law through them. The"
    " interval of its exponent is that of other seeds; it says nothing of how well a power law fits.",
    "decomposition": "A table (red: 1), the logits of a model that learnt it, and the matrices r H of its strongest"
    " hidden units, which with the others add up to the logits; red above 0, blue below.",
    "circuits": "How the figures of single hidden units are spread; units that are never active are left out; dashed,"
    " the mean.",
    "ablation": "Median accuracy as hidden units are taken away, weakest, strongest or random ones first; the bands"
    " hold 90 % of the models.",
    "matching": "How alike matched hidden units of two models are, on one table and on different ones.",
    "quantisation": "Left: bits kept per parameter. Right: stored bits for each bit of weight. What is below 0, a model"
    " worse than no model, is below the axis: the table has it. Retrained: what is left, after each of W, c and r.",
    "constructions": "Facts per parameter (P1) of exact constructions, means over tables.",
}
QUESTIONS = {name: study.question for name, study in STUDIES.items()} | {
    "circuits": "What do the hidden units do, and is it the table's doing?",
    "quantisation": "How many bits of weight do the stored bits need?",
    "constructions": "How many facts per parameter hold weights that are written down, not trained?",
}
EMBEDDED = "frozen random embeddings unless said otherwise"
NOTE = "Intervals are 95 %: Wilson's for shares, Student's for means, bootstrap for thresholds."
