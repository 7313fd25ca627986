"""What SAELens wants to find in cfg.json; light, so that saving a dictionary needs no SAELens."""

from typing import Any

ARCHITECTURE = "itda"
SAELENS = "6.54.0"
"""The version whose form cfg.json has; SAELens takes a file without one for older than 6 and drops its metadata."""


def saelens_cfg(dictionary: Any) -> dict[str, Any]:
    """The keys of cfg.json by which `SAE.load_from_disk` builds the SAE of a dictionary, or of a stored one.

    Example:
        >>> saelens_cfg(ITDA(k=4).fit(torch.randn(100, 8)))["architecture"]
        'itda'
    """
    atoms, width = dictionary.atoms.shape
    settings, data = dictionary.settings, dictionary.data
    known = {"model_name": data.get("model"), "hook_name": data.get("hook"), "dataset_path": data.get("id")}
    return {
        "architecture": ARCHITECTURE,
        "d_in": width,
        "d_sae": atoms,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "k": settings.k,
        "method": settings.method,
        "nonnegative": settings.nonnegative,
        "metadata": {"sae_lens_version": SAELENS, "sae_lens_training_version": None} | known,
    }
