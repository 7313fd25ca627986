"""How far each operation may be from its float64 reference, by (operation, quantity), and why."""

TOLERANCES = {
    # float32 rounds each update by 6e-8 relative; 20 updates of Adam at lr up to 1e-2 amplify that to about 1e-6.
    ("memorise", "loss after 20 steps"): 5e-6,
    # With eps = 1e-3; with 1e-8, Adam turns a gradient that should be 0 and is 1e-9 by rounding into a full step.
    ("memorise", "weights after 20 steps"): 1e-5,
    # Sums of up to R * C float32 terms, relative to the largest gradient of the field.
    ("memorise", "gradient"): 1e-5,
    # The figures of matching_pursuit are relative to ||x||, the norm of the sample, unless said otherwise.
    # Float32 rounds a correlation by about 1e-7; a gap above this is never bridged, whatever the order of the sums.
    ("matching_pursuit", "gap"): 1e-5,
    # Relative to the largest correlation: the spec's measure of a pick where two atoms are almost equally good.
    ("matching_pursuit", "near-optimality"): 1e-4,
    # A residual is rounded at every step, so that correlations far below ||x|| are off by this, however small they are.
    ("matching_pursuit", "rounding of a correlation"): 1e-6,
    # At rounding level (8 eps = 9.5e-7) a sample stops, and float32 may see it a little earlier or later than float64.
    ("matching_pursuit", "rounding level"): 3e-6,
    # The spec's; on supports whose condition number is up to about 100.
    ("matching_pursuit", "coefficients"): 1e-4,
    ("matching_pursuit", "orthogonality"): 1e-4,
    # Relative to ||x||^2.
    ("matching_pursuit", "energy"): 1e-4,
    # The residual is kept explicitly: k roundings of 6e-8 each, and those of what checks it.
    ("matching_pursuit", "residual norm"): 5e-6,
    # Relative to the FVU in float64; "fast" may pick other atoms.
    ("matching_pursuit", "FVU"): 1e-4,
    ("matching_pursuit", "FVU fast"): 1e-3,
}
