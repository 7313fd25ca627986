"""Dictionaries in SAELens and SAEBench, against the ITDA that they came from and SAELens' own matching pursuit."""

import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest
import torch

from interpkern.errors import DTypeError, MissingExtra, ShapeError
from interpkern.itda import ITDA
from interpkern.itda.gradients import with_gradient
from interpkern.itda.saebench import SAEBenchITDA
from interpkern.itda.saelens_config import saelens_cfg
from interpkern.ops.matching_pursuit import matching_pursuit

sae_lens = pytest.importorskip("sae_lens")
SETTINGS = (
    {"method": "mp"},
    {"method": "omp"},
    {"method": "mp_refit"},
    {"method": "omp", "nonnegative": True},
    {"method": "mp", "nonnegative": True},
)
FIELDS = (
    *("model_name", "d_in", "d_sae", "hook_layer", "hook_name", "context_size", "hook_head_index", "architecture"),
    *("apply_b_dec_to_input", "finetuning_scaling_factor", "activation_fn_str", "activation_fn_kwargs", "prepend_bos"),
    *("normalize_activations", "dtype", "device", "model_from_pretrained_kwargs", "dataset_path"),
    *("dataset_trust_remote_code", "seqpos_slice", "training_tokens", "sae_lens_training_version", "neuronpedia_id"),
)
"""Those of CustomSAEConfig in SAEBench."""


def activations(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) + 0.5


def fitted(**settings: object) -> ITDA:
    return ITDA(**({"k": 5, "threshold": 0.3} | settings)).fit(activations(300, 31))


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_saved_dictionary_opens_in_saelens(tmp_path: Path, settings: dict[str, object]) -> None:
    from interpkern.itda.saelens import ITDASAE

    itda = fitted(**settings)
    sae = sae_lens.SAE.load_from_disk(itda.save_pretrained(tmp_path / "d"))
    assert isinstance(sae, ITDASAE)
    assert (sae.cfg.architecture(), sae.cfg.d_in, sae.cfg.d_sae) == ("itda", 31, len(itda))
    assert {name: getattr(sae.cfg, name) for name in settings} == settings
    assert torch.equal(sae.W_dec, itda.atoms)
    assert torch.equal(sae.W_enc, itda.atoms.T)
    assert torch.equal(sae.b_dec, itda.mean)
    x = activations(2 * 7, 31, seed=1)
    codes = sae.encode(x.reshape(2, 7, 31))
    assert torch.equal(codes.reshape(14, -1), itda.encode(x).to_dense(len(itda)))
    torch.testing.assert_close(sae(x), itda.decode(itda.encode(x)), rtol=1e-5, atol=1e-5)
    assert sae.encode(x[0]).shape == (len(itda),)
    assert sae.encode(x[:0]).shape == (0, len(itda))


def test_the_keys_of_cfg_json_carry_model_and_hook(tmp_path: Path) -> None:
    from interpkern.itda.saelens import to_sae

    itda = fitted()
    itda._data |= {"model": "gpt2", "hook": "blocks.3.hook_resid_pre", "id": "texts"}
    folder = itda.save_pretrained(tmp_path / "d")
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | saelens_cfg(itda)))
    metadata = sae_lens.SAE.load_from_disk(folder).cfg.metadata
    assert (metadata.model_name, metadata.hook_name, metadata.dataset_path) == tuple(
        itda.data[name] for name in ("model", "hook", "id")
    )
    assert to_sae(itda).cfg.to_dict() == sae_lens.SAE.load_from_disk(folder).cfg.to_dict()


def test_saelens_saves_and_loads_it_too(tmp_path: Path) -> None:
    from interpkern.itda.saelens import to_sae

    itda = fitted(k=3, method="mp_refit")
    sae = to_sae(itda)
    sae.save_model(tmp_path / "d")
    again = sae_lens.SAE.load_from_disk(tmp_path / "d", dtype="float32", fold_W_dec_norm=True)
    x = activations(33, 31, seed=1)
    assert (again.cfg.k, again.cfg.method) == (3, "mp_refit")
    assert torch.equal(again.encode(x), sae.encode(x))


def test_the_atoms_in_use_are_those_of_W_dec() -> None:
    from interpkern.itda.saelens import to_sae

    itda = fitted(method="mp")
    sae = to_sae(itda)
    x = activations(7, 31, seed=1)
    before = sae.encode(x)
    with torch.no_grad():
        sae.W_dec.copy_(itda.atoms.flip(0))
    assert not torch.equal(sae.encode(x), before)
    torch.testing.assert_close(sae.encode(x).flip(1), before, rtol=1e-5, atol=1e-5)
    assert torch.equal(itda.atoms.flip(0), sae.W_dec)


def test_half_precision_stays_close() -> None:
    from interpkern.itda.saelens import to_sae

    itda = fitted(method="omp", k=3)
    sae = to_sae(itda).to(dtype=torch.bfloat16)
    x = activations(33, 31, seed=1)
    assert sae.encode(x).dtype == torch.bfloat16
    wanted = itda.decode(itda.encode(x))
    got = sae(x).float()
    assert float((x - got).square().sum()) == pytest.approx(float((x - wanted).square().sum()), rel=0.03)


def test_gradients_pass_as_through_a_linear_map() -> None:
    from interpkern.itda.saelens import to_sae

    for settings in SETTINGS:
        sae = to_sae(fitted(**settings))
        assert not sae.encode(activations(3, 31)).requires_grad
        x = activations(7, 31, seed=2).requires_grad_()
        codes = sae.encode(x)
        weights = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
        (gradient,) = torch.autograd.grad((codes * weights).sum(), x)
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
        step = 1e-2
        with torch.no_grad():
            moved = [sae.encode(x + sign * step * direction) for sign in (1, -1)]
            same = ((moved[0] != 0) == (moved[1] != 0)).all(1) & ((codes != 0) == (moved[0] != 0)).all(1)
            change = ((moved[0] - moved[1]) * weights).sum(1) / (2 * step)
        assert int(same.sum()) >= 3
        torch.testing.assert_close((gradient * direction).sum(1)[same], change[same], rtol=2e-3, atol=2e-3)
        assert torch.equal(codes.detach(), sae.encode(x.detach()))
        assert sae.W_dec.grad is None


def test_the_replayed_code_is_the_code() -> None:
    atoms = torch.nn.functional.normalize(activations(33, 7), dim=1)
    x = torch.cat([activations(31, 7, seed=1), torch.zeros(1, 7), atoms[:1]])
    for method in ("mp", "omp", "mp_refit"):
        code = matching_pursuit(x, atoms, 9, method=method)
        again = with_gradient(code, x.requires_grad_(), atoms, method)
        assert torch.equal(again.coefficients.detach(), code.coefficients)
        assert bool(again.coefficients.isfinite().all())
        again.coefficients.square().sum().backward()
        assert bool(x.grad.isfinite().all())
        x = x.detach()


@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_export_is_saelens_own_matching_pursuit(tmp_path: Path, nonnegative: bool) -> None:
    from interpkern.itda.saelens import to_matching_pursuit_sae

    itda = fitted(method="mp", k=9, nonnegative=nonnegative)
    exported = to_matching_pursuit_sae(itda)
    exported.save_model(tmp_path / "d")
    sae = sae_lens.SAE.load_from_disk(tmp_path / "d")
    assert type(sae) is sae_lens.MatchingPursuitSAE
    assert (sae.cfg.stop_on_duplicate_support, sae.cfg.residual_threshold, sae.cfg.max_iterations) == (False, 0, 9)
    atoms = len(itda)
    assert sae.cfg.d_sae == (1 if nonnegative else 2) * atoms
    x = activations(257, 31, seed=1)
    with torch.no_grad():
        codes = sae.encode(x)
    assert bool((codes >= 0).all())
    signed = codes if nonnegative else codes[:, :atoms] - codes[:, atoms:]
    ours = itda.encode(x).to_dense(atoms)
    scale = (x - itda.mean).norm(dim=1, keepdim=True)
    close = ((signed - ours).abs() <= 1e-5 * scale).all(1)
    # two atoms that are almost equally good may change places by rounding
    assert float(close.float().mean()) >= 0.99
    with torch.no_grad():
        torch.testing.assert_close(
            (x - sae(x)).square().sum(), (x - itda.decode(itda.encode(x))).square().sum(), rtol=1e-3, atol=0
        )


def test_without_its_three_settings_saelens_gives_other_codes() -> None:
    from interpkern.itda.saelens import to_matching_pursuit_sae

    itda = fitted(method="mp", k=9)
    sae = to_matching_pursuit_sae(itda)
    x = activations(257, 31, seed=1)
    exact = sae.encode(x)
    for name, value in {"stop_on_duplicate_support": True, "residual_threshold": 3.0, "max_iterations": 8}.items():
        before = getattr(sae.cfg, name)
        setattr(sae.cfg, name, value)
        assert not torch.allclose(sae.encode(x), exact, atol=1e-4), name
        setattr(sae.cfg, name, before)


def test_only_mp_is_exported_unless_asked_for() -> None:
    from interpkern.itda.saelens import to_matching_pursuit_sae

    itda = fitted(method="omp")
    with pytest.raises(ValueError, match=r"method: MatchingPursuitSAE computes mp .* 'omp'"):
        to_matching_pursuit_sae(itda)
    with pytest.raises(ValueError, match="method: expected one of mp"):
        to_matching_pursuit_sae(itda, method="omp")
    assert torch.equal(to_matching_pursuit_sae(itda, method="mp").W_dec[: len(itda)], itda.atoms)
    with pytest.raises(DTypeError, match="itda: expected a fitted ITDA"):
        to_matching_pursuit_sae(None)
    with pytest.raises(ValueError, match="call fit"):
        to_matching_pursuit_sae(ITDA())


def test_a_scale_and_an_unknown_method_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = fitted().save_pretrained(tmp_path / "d")
    path = folder / "sae_weights.safetensors"
    save_file(load_file(path) | {"scale": torch.tensor(2.0)}, path)
    with pytest.raises(ValueError, match="scale: expected 1"):
        sae_lens.SAE.load_from_disk(folder)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | {"method": "lasso"}))
    with pytest.raises(ValueError, match="method: expected one of"):
        sae_lens.SAE.load_from_disk(folder)


def test_it_attaches_to_a_model_of_saelens() -> None:
    from interpkern.itda.saelens import to_sae

    config = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "n_ctx": 32, "d_vocab": 23, "act_fn": "gelu"}
    bridge = sae_lens.SAETransformerBridge.boot_native(config | {"seed": 0})
    hook = "blocks.1.hook_resid_pre"
    tokens = torch.randint(0, 23, (3, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, cache = bridge.run_with_cache(tokens, names_filter=hook)
    itda = ITDA(k=3, threshold=0.3).fit(cache[hook].flatten(0, 1))
    itda._data |= {"hook": hook}
    sae = to_sae(itda)

    def rebuilt(value: torch.Tensor, hook: object) -> torch.Tensor:
        return itda.decode(itda.encode(value.flatten(0, 1))).reshape(value.shape)

    with torch.no_grad():
        wanted = bridge.run_with_hooks(tokens, fwd_hooks=[(hook, rebuilt)])
        # as its boot_transformers does; boot_native forgets to
        bridge.__class__, bridge._acts_to_saes, bridge._transcoder_output_hooks = sae_lens.SAETransformerBridge, {}, {}
        got, cache = bridge.run_with_cache_with_saes(tokens, saes=[sae])
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert cache[bridge.get_sae_hook_name(sae)].shape == (3, 9, len(itda))


@pytest.mark.parametrize("split", [False, True])
def test_saebench_has_what_it_asks_for(split: bool) -> None:
    itda = fitted()
    sae = SAEBenchITDA(itda, model_name="pythia-70m", hook_name="blocks.4.hook_resid_post", split_signs=split)
    atoms = len(itda)
    assert set(FIELDS) <= set(asdict(sae.cfg))
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.hook_layer) == (31, (1 + split) * atoms, 4)
    assert (sae.cfg.context_size, sae.cfg.prepend_bos, sae.cfg.dtype) == (128, True, "float32")
    assert sae.W_dec.shape == sae.W_enc.T.shape == (sae.cfg.d_sae, 31)
    assert (sae.b_enc.shape, sae.b_dec.shape) == ((sae.cfg.d_sae,), (31,))
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(sae.cfg.d_sae), rtol=0, atol=1e-5)
    x = activations(2 * 9, 31, seed=1)
    codes = sae.encode(x.reshape(2, 9, 31))
    assert codes.shape == (2, 9, sae.cfg.d_sae)
    ours = itda.encode(x).to_dense(atoms)
    flat = codes.reshape(18, -1)
    assert torch.equal(flat[:, :atoms] - flat[:, atoms:] if split else flat, ours)
    assert bool((flat >= 0).all()) == split
    torch.testing.assert_close(sae(x), itda.decode(itda.encode(x)), rtol=1e-5, atol=1e-5)
    half = sae.to(device="cpu", dtype=torch.bfloat16)
    assert (half.dtype, half.cfg.dtype, half(x).dtype) == (torch.bfloat16, "bfloat16", torch.bfloat16)


def test_saebench_takes_names_from_the_dictionary_or_asks() -> None:
    itda = fitted()
    with pytest.raises(ValueError, match="hook_name: expected a name"):
        SAEBenchITDA(itda, model_name="gpt2")
    with pytest.raises(ValueError, match="model_name: expected a name"):
        SAEBenchITDA(itda, hook_name="blocks.3.hook_resid_pre")
    with pytest.raises(DTypeError, match="hook_layer"):
        SAEBenchITDA(itda, model_name="gpt2", hook_name="ln_final.hook_out")
    itda._data |= {"model": "gpt2", "hook": "blocks.11.hook_resid_pre"}
    sae = SAEBenchITDA(itda, context_size=64, prepend_bos=False)
    assert (sae.cfg.model_name, sae.cfg.hook_layer, sae.cfg.context_size) == ("gpt2", 11, 64)
    with pytest.raises(ShapeError, match=r"x: expected \(\.\.\., 31\)"):
        sae.encode(torch.zeros(3, 30))
    with pytest.raises(DTypeError, match="itda"):
        SAEBenchITDA(None)


def test_without_saelens_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    monkeypatch.delitem(sys.modules, "interpkern.itda.saelens", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'interpkern\[sae\]'"):
        import_module("interpkern.itda.saelens")
