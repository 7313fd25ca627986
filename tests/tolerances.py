"""How far each operation may be from its float64 reference, by (operation, quantity), and why."""

TOLERANCES = {
    # float32 rounds each update by 6e-8 relative; 20 updates of Adam at lr up to 1e-2 amplify that to about 1e-6.
    ("memorise", "loss after 20 steps"): 5e-6,
    # With eps = 1e-3; with 1e-8, Adam turns a gradient that should be 0 and is 1e-9 by rounding into a full step.
    ("memorise", "weights after 20 steps"): 1e-5,
    # Sums of up to R * C float32 terms, relative to the largest gradient of the field.
    ("memorise", "gradient"): 1e-5,
}
