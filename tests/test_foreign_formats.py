"""What other libraries publish: read as they compute it; refused where a file leaves it open."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from library_bounds import U, features_bound, reconstruction_bound

import reftranscoder as rt
from reftranscoder import cli
from reftranscoder.errors import FileError, OptionError
from reftranscoder.files.container import open_container
from reftranscoder.formats import FORMATS, CrossLayerModel, Model, save
from reftranscoder.formats.published import FORMAT_NAMES
from reftranscoder.formats.recognition import READERS
from reftranscoder.formats.writing import WRITERS, difference, write
from reftranscoder.params import JumpReLU

GOLDEN = Path(__file__).parent / "golden" / "formats"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expect.npz"))
#: What `test_cross_layer` reads, and what is no transcoder.
OTHERS = {name for name in CASES if "_clt" in name} | {"torch"}
READ = [name for name in CASES if name not in OTHERS]
LIBRARIES = {"sae_lens": "saelens"}
#: What a file leaves open.
TOLD = {"edifice": {"top_k": 3}}


def expected(name):
    with np.load(GOLDEN / name / "expect.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("name", READ)
def test_features_are_those_of_the_library(name):
    """Within what rounding can do to them, and the reconstruction from the library's own features;
    u of what the library computes in."""
    tc, case = rt.load(GOLDEN / name, **TOLD.get(name, {})), expected(name)
    u = U["bfloat16" if "bfloat16" in name else "float32"]
    got = tc.encode(case["x"], backend="reference").toarray()
    assert (np.abs(got - case["features"]) <= features_bound(tc, case["x"], u)).all()
    assert (got != 0).any()
    decoded = tc.decode(case["features"], case["x"], backend="reference")
    bound = reconstruction_bound(tc, case["x"], case["features"], u)
    assert (np.abs(decoded - case["reconstruction"]) <= bound).all()


@pytest.mark.parametrize("name", READ)
def test_the_audit_passes_what_the_library_computed(name):
    tc, case = rt.load(GOLDEN / name, **TOLD.get(name, {})), expected(name)
    arithmetic = "bfloat16" if "bfloat16" in name else "float32"
    results = {"hidden": case["features"], "reconstruction": case["reconstruction"]}
    target = np.zeros_like(case["reconstruction"])
    report = rt.audit(results, tc, case["x"], target, arithmetic=arithmetic)
    assert report.passed and report.stages["reconstruction"].verdict != "not given"
    results["reconstruction"] = results["reconstruction"] + tc.params.b_dec
    assert not rt.audit(results, tc, case["x"], target, arithmetic=arithmetic).passed


@pytest.mark.parametrize("name", READ)
def test_the_origin_says_what_it_is(name):
    library = name.partition("-")[0]
    origin = rt.load(GOLDEN / name, **TOLD.get(name, {})).origin
    assert origin.format == LIBRARIES.get(library, library)
    assert origin.dtype == ("bfloat16" if "bfloat16" in name else "float32")
    assert json.dumps(origin.to_dict())


def test_hooks_and_layers_are_told():
    origin = rt.load(GOLDEN / "circuit_tracer").origin
    assert (origin.layer, origin.model) == (7, "google/gemma-2-2b")
    assert (origin.hook_in, origin.hook_out) == ("ln2.hook_normalized", "hook_mlp_out")
    origin = rt.load(GOLDEN / "gemma_scope_2").origin
    assert origin.hook_in == "model.layers.3.pre_feedforward_layernorm.output"


def test_what_has_no_counterpart_is_refused_by_name(tmp_path):
    folder = changed(tmp_path, "sae_lens-gated", "cfg.json", architecture="temporal")
    with pytest.raises(FileError, match="its architecture is 'temporal'"):
        rt.load(folder)


def changed(tmp_path, name, file, **settings):
    """A copy of a case with other settings in ``file``; None takes one away."""
    folder = tmp_path / name
    shutil.copytree(GOLDEN / name, folder)
    content = json.loads((folder / file).read_text()) | settings
    content = {key: value for key, value in content.items() if value is not None}
    (folder / file).write_text(json.dumps(content))
    return folder


def test_sparsify_of_the_time_when_b_dec_ceased_to_be_subtracted(tmp_path):
    folder = changed(tmp_path, "sparsify-skip", "cfg.json", activation=None)
    with pytest.raises(FileError, match="Say apply_b_dec_to_input=True .before 2025-02-12. or"):
        rt.load(folder)
    for said in (True, False):
        tc = rt.load(folder, apply_b_dec_to_input=said)
        assert tc.config.conventions.apply_b_dec_to_input is said


def test_sparsify_of_before_that_says_so(tmp_path):
    folder = changed(tmp_path, "sparsify-skip", "cfg.json", activation=None, transcode=None)
    tc = rt.load(folder)
    assert tc.config.conventions.apply_b_dec_to_input
    assert any("before 2025-02-12" in warning for warning in tc.origin.warnings)


def test_multi_topk_keeps_two_numbers_of_features(tmp_path):
    folder = changed(tmp_path, "sparsify-topk", "cfg.json", multi_topk=True)
    with pytest.raises(FileError, match="Say which: top_k=3 or top_k=12"):
        rt.load(folder)
    assert rt.load(folder, top_k=12).config.top_k == 12


@pytest.mark.parametrize("k", [float("inf"), float("nan"), 2.5, 0, -1, "3", None, True])
def test_a_k_that_is_no_number_of_features(tmp_path, k):
    folder = tmp_path / "sae_lens-topk-rescaled"
    shutil.copytree(GOLDEN / folder.name, folder)
    content = json.loads((folder / "cfg.json").read_text()) | {"k": k}
    (folder / "cfg.json").write_text(json.dumps(content))
    with pytest.raises(FileError, match="its k must be a whole number"):
        rt.load(folder)


def test_what_a_transcoder_subtracts_from_its_input_is_folded():
    tc = rt.load(GOLDEN / "transcoder_circuits-transcoder")
    state = open_container(Path(tc.origin.path)).values["state_dict"]
    wide = {name: tensor.read().astype(np.float64) for name, tensor in state.items()}
    want = wide["b_enc"] - wide["b_dec"] @ wide["W_enc"]
    assert wide["b_dec"].all()
    # Rounded once to float32, and a float64 sum of I terms in any order.
    sizes = np.abs(wide["b_enc"]) + np.abs(wide["b_dec"]) @ np.abs(wide["W_enc"])
    assert (np.abs(tc.params.b_enc - want) <= 2.0**-24 * np.abs(want) + 2.0**-49 * sizes).all()
    assert "folded into b_enc" in tc.origin.warnings[0]


def test_llama_scope_transcoders_have_two_factors(tmp_path):
    tc = rt.load(GOLDEN / "llama_scope-transcoder")
    assert tc.config.conventions.scale == 6**0.5 / 2.5
    assert not tc.config.conventions.rescale_output
    settings = {"in": 2.5}
    folder = changed(
        tmp_path,
        "llama_scope-transcoder",
        "hyperparams.json",
        dataset_average_activation_norm=settings,
    )
    with pytest.raises(FileError, match="its norm of activations 'out'"):
        rt.load(folder)


def test_a_square_decoder_in_either_layout(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    arrays = {"W_enc": (4, 4), "b_enc": (4,), "W_dec": (4, 4), "b_dec": (4,)}
    arrays = {name: rng.standard_normal(shape).astype("f4") for name, shape in arrays.items()}
    numpy.save_file(arrays, tmp_path / "layer_0.safetensors")
    with pytest.raises(FileError, match="Say W_dec_rows='feature'"):
        rt.load(tmp_path)
    rows = rt.load(tmp_path, W_dec_rows="feature").params.W_dec
    assert np.array_equal(rows, arrays["W_dec"])
    assert np.array_equal(rt.load(tmp_path, W_dec_rows="output").params.W_dec, rows.T)


def test_a_decoder_of_the_first_release_is_told_by_its_shape(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = {"W_enc": np.ones((4, 3)), "b_enc": np.ones(4), "b_dec": np.ones(3)}
    W_dec = np.arange(12.0).reshape(3, 4)
    for turned in (W_dec, W_dec.T.copy()):
        numpy.save_file({**arrays, "W_dec": turned}, tmp_path / "layer_0.safetensors")
        assert np.array_equal(rt.load(tmp_path).params.W_dec, W_dec.T)


def test_options_that_decide_nothing_are_refused():
    with pytest.raises(FileError, match="W_dec_rows is not left open"):
        rt.load(GOLDEN / "sparsify-topk", W_dec_rows="feature")
    with pytest.raises(OptionError, match="format must be one of"):
        rt.load(GOLDEN / "sparsify-topk", format="nothing")
    with pytest.raises(FileError, match="is not of format 'openai'"):
        rt.load(GOLDEN / "sparsify-topk", format="openai")


def test_edifice_does_not_say_how_many(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"encoder.kernel": (3, 8), "encoder.bias": (8,)}
    shapes |= {"decoder.kernel": (8, 2), "decoder.bias": (2,)}
    arrays = {f"transcoder_{n}": rng.standard_normal(s).astype("f4") for n, s in shapes.items()}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(FileError, match="Say top_k="):
        rt.load(tmp_path / "x.npz")
    tc = rt.load(tmp_path / "x.npz", top_k=2)
    assert np.array_equal(tc.params.W_enc, arrays["transcoder_encoder.kernel"].T)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of three layers, as sparsify leaves it."""
    folder = tmp_path_factory.mktemp("root")
    for layer in (2, 0, 10):
        shutil.copytree(GOLDEN / "sparsify-topk", folder / f"layers.{layer}.mlp")
    return folder


def test_a_folder_of_many_is_listed_and_picked_from(root):
    found = rt.scan(root)
    assert [row.layer for row in found] == [0, 2, 10]
    said = {(row.format, row.dict_size, row.dtype) for row in found}
    assert said == {("sparsify", 16, "float32")}
    with pytest.raises(FileError, match="holds 3 transcoders.*layer=0 to 10"):
        rt.load(root)
    assert rt.load(root, layer=10).origin.layer == 10
    with pytest.raises(FileError, match="no transcoder|without a transcoder.*layer 5"):
        rt.load(root, layer=5)


def test_commands_take_one_of_many(root, tmp_path, capsys):
    x = tmp_path / "x.npy"
    np.save(x, expected("sparsify-topk")["x"])
    commands = {
        "info": [str(root)],
        "encode": [str(root), str(x), "-o", str(tmp_path / "features.npz")],
        "predict": [str(root), str(x), "-o", str(tmp_path / "y.npy")],
        "evaluate": [str(root), str(x), str(x)],
        "convert": [str(root), str(tmp_path / "m.npz")],
    }
    for command, arguments in commands.items():
        for layer, words in ((None, "Say which: layer=0 to 10"), (5, "for layer 5")):
            told = [] if layer is None else ["--layer", str(layer)]
            assert cli.main([command, *arguments, *told]) == 2
            assert words in capsys.readouterr().err
        assert cli.main([command, *arguments, "--layer", "10"]) == 0, command
    assert cli.main(["info", str(tmp_path / "m.npz"), "--layer", "10"]) == 2
    assert "is one file, and a layer is one of a folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def hooks(tmp_path_factory):
    """Two hooks of each of two layers: folders of sparsify, and settings of SAELens."""
    root = tmp_path_factory.mktemp("hooks")
    for name in ("layers.5.mlp", "layers.5.attn", "layers.10.mlp", "layers.10.attn"):
        shutil.copytree(GOLDEN / "sparsify-topk", root / "sparsify" / name)
    for number, name in enumerate(("blocks.3.hook_resid_pre", "blocks.3.hook_mlp_out")):
        folder = root / "saelens" / f"run_{number}"
        shutil.copytree(GOLDEN / "sae_lens-jumprelu", folder)
        settings = json.loads((folder / "cfg.json").read_text())
        settings["metadata"]["hook_name"] = name
        (folder / "cfg.json").write_text(json.dumps(settings))
    return root


def test_a_hook_tells_which(hooks):
    found = rt.scan(hooks / "sparsify")
    assert [(row.layer, row.hook_in) for row in found[:2]] == [
        (5, "layers.5.attn"),
        (5, "layers.5.mlp"),
    ]
    for told in ({"hook": "layers.5.mlp"}, {"layer": 5, "hook": "mlp"}):
        assert rt.load(hooks / "sparsify", **told).origin.hook_in == "layers.5.mlp"
    found = {row.hook_in: row.layer for row in rt.scan(hooks / "saelens")}
    assert found == {"blocks.3.hook_resid_pre": 3, "blocks.3.hook_mlp_out": 3}
    for told in ({"hook": "hook_resid_pre"}, {"hook": "blocks.3.hook_resid_pre", "layer": 3}):
        assert rt.load(hooks / "saelens", **told).origin.hook_in == "blocks.3.hook_resid_pre"


@pytest.mark.parametrize(
    ("folder", "told", "words"),
    [
        ("sparsify", {}, "holds 4 transcoders. Say which: hook='layers.5.attn', hook='layers.5.m"),
        ("sparsify", {"layer": 5}, "2 transcoders for layer 5. .*'layers.5.attn', hook='layers.5"),
        ("sparsify", {"hook": "mlp"}, "2 transcoders for hook 'mlp'. Say which: layer=5 to 10"),
        ("sparsify", {"hook": "lp"}, "without .* for hook 'lp'. There are: hook='layers.5.attn'"),
        ("sparsify", {"layer": 9, "hook": "mlp"}, "without .* for layer 9 and hook 'mlp'"),
        ("saelens", {}, "holds 2 .* hook='blocks.3.hook_resid_pre', hook='blocks.3.hook_mlp_out'"),
        ("saelens", {"layer": 3}, "2 transcoders for layer 3.*hook='blocks.3.hook_resid_pre'"),
        ("", {}, "holds 6 transcoders.*or one of 2 more; rt.scan"),
    ],
)
def test_what_would_tell_them_apart_is_named(hooks, folder, told, words):
    with pytest.raises(FileError, match=words):
        rt.load(hooks / folder, **told)


@pytest.mark.parametrize("hook", ["", 3, "x" * 1000, b"mlp"])
def test_a_hook_that_is_no_name(hooks, hook):
    with pytest.raises(OptionError, match="hook must be a name"):
        rt.load(hooks / "sparsify", hook=hook)


def test_a_hook_of_what_names_none(tmp_path):
    for layer in (1, 2):
        shutil.copytree(GOLDEN / "gemma_scope", tmp_path / f"layer_{layer}")
    with pytest.raises(FileError, match="Its files name no hooks"):
        rt.load(tmp_path, hook="mlp")
    with pytest.raises(FileError, match="and a hook is one of a folder of many. Leave hook out"):
        rt.load(tmp_path / "layer_1" / "params.npz", hook="mlp")


def test_one_that_is_damaged_hides_no_other(hooks, tmp_path):
    shutil.copytree(hooks / "sparsify", tmp_path / "root")
    (tmp_path / "root" / "layers.5.attn" / "sae.safetensors").write_bytes(b"damaged")
    assert rt.load(tmp_path / "root", layer=5, hook="mlp").origin.hook_in == "layers.5.mlp"
    with pytest.raises(FileError, match="layers.5.attn.*holds no tensors by name"):
        rt.load(tmp_path / "root", hook="layers.5.attn")


def test_a_list_does_not_need_what_files_leave_open(tmp_path):
    for layer in (1, 2):
        folder = changed(tmp_path / str(layer), "sparsify-topk", "cfg.json", multi_topk=True)
        folder.rename(tmp_path / f"layers.{layer}")
    found = rt.scan(tmp_path)
    assert [row.hook_in for row in found] == ["layers.1", "layers.2"]
    with pytest.raises(FileError, match="Say which: top_k=3 or top_k=12"):
        rt.load(tmp_path, layer=1)
    numpy = pytest.importorskip("safetensors.numpy")
    square = {"W_enc": np.ones((4, 4)), "b_enc": np.ones(4), "W_dec": np.ones((4, 4))}
    square |= {"b_dec": np.ones(4), "k": np.array(2)}
    numpy.save_file(square, tmp_path / "layer_3.safetensors")
    assert [row.variant for row in rt.scan(tmp_path)][-1] == "topk transcoder"
    assert rt.load(tmp_path, hook="layers.1", top_k=12).config.top_k == 12


def test_commands_are_told_what_a_folder_leaves_open(hooks, tmp_path, capsys):
    """By the options that `load` has, wherever a transcoder is read."""
    x = tmp_path / "x.npy"
    np.save(x, expected("sparsify-topk")["x"])
    folder = changed(tmp_path, "sparsify-topk", "cfg.json", multi_topk=True)
    commands = {
        "info": [],
        "encode": [str(x), "-o", str(tmp_path / "features.npz"), "--force"],
        "predict": [str(x), "-o", str(tmp_path / "y.npy"), "--force"],
        "evaluate": [str(x), str(x)],
        "report": [str(x), str(x)],
        "convert": [str(tmp_path / "m.npz"), "--force"],
    }
    for command, more in commands.items():
        told = [command, str(folder), *more]
        assert cli.main(told) == 2
        assert "Say which: top_k=3 or top_k=12" in capsys.readouterr().err
        assert cli.main([*told, "--top-k", "12"]) == 0, command
        told = [command, str(hooks / "sparsify"), *more, "--layer", "5"]
        assert cli.main(told) == 2
        assert "hook='layers.5.attn', hook='layers.5.mlp'" in capsys.readouterr().err
        assert cli.main([*told, "--hook", "attn"]) == 0, command


@pytest.mark.parametrize("name", READ)
def test_encode_takes_any_of_them(name, tmp_path, capsys):
    x = tmp_path / "x.npy"
    np.save(x, expected(name)["x"])
    told = ["encode", str(GOLDEN / name), str(x), "-o", str(tmp_path / "features.npz")]
    if name in TOLD:
        assert cli.main(told) == 2
        assert "Say top_k=" in capsys.readouterr().err
        return
    assert cli.main(told) == 0


def test_a_cache_of_the_hub(tmp_path):
    hub = tmp_path / "models--a--b"
    snapshot, blobs = hub / "snapshots" / "abc123", hub / "blobs"
    for folder in (snapshot, blobs, hub / "refs"):
        folder.mkdir(parents=True)
    (hub / "refs" / "main").write_text("abc123")
    for number, name in enumerate(("cfg.json", "sae.safetensors")):
        shutil.copy(GOLDEN / "sparsify-topk" / name, blobs / str(number))
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    for path in (hub, snapshot, snapshot / "sae.safetensors"):
        assert rt.load(path).config == rt.load(GOLDEN / "sparsify-topk").config
    (snapshot / "sae.safetensors").unlink()
    (tmp_path / "elsewhere").write_bytes(b"x")
    (snapshot / "sae.safetensors").symlink_to("../../../elsewhere")
    with pytest.raises(FileError, match="leads out of its folder"):
        rt.load(hub)
    blobs.rename(tmp_path / "others")
    blobs.symlink_to(tmp_path / "others")
    (snapshot / "sae.safetensors").unlink()
    (snapshot / "sae.safetensors").symlink_to("../../blobs/1")
    with pytest.raises(FileError, match="leads out of its folder"):
        rt.load(hub)


@pytest.mark.parametrize("revision", ["../../..", "", "abc123\n../x", "missing", "x" * 2000])
def test_a_revision_is_a_name(tmp_path, revision):
    for folder in ("snapshots/abc123", "refs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "refs" / "main").write_text(revision)
    with pytest.raises(FileError, match="without the revision|longer than|is empty"):
        rt.load(tmp_path)


def test_a_revision_that_is_a_link_out_of_the_cache(tmp_path):
    shutil.copytree(GOLDEN / "sparsify-topk", tmp_path / "elsewhere")
    for folder in ("hub/snapshots", "hub/refs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "hub" / "refs" / "main").write_text("abc123")
    (tmp_path / "hub" / "snapshots" / "abc123").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError, match="leads out of its folder"):
        rt.load(tmp_path / "hub")


# Writing.


@pytest.mark.parametrize("target", [name for name in WRITERS if name != "circuit_tracer_clt"])
@pytest.mark.parametrize("name", READ)
def test_what_is_written_is_read_as_what_it_was(name, target, tmp_path):
    tc = rt.load(GOLDEN / name, **TOLD.get(name, {}))
    try:
        path = write(Model(tc.config, tc.params), tmp_path / "out", target, force=False)
    except FileError as error:
        assert f"format {target} cannot say" in str(error)
        assert not (tmp_path / "out").exists()
        return
    back = rt.load(path)
    assert difference(Model(tc.config, tc.params), Model(back.config, back.params)) is None
    x = expected(name)["x"]
    for stage, got in back.stages(x).items():
        want = tc.stages(x)[stage]
        got, want = (getattr(a, "toarray", lambda a=a: a)() for a in (got, want))
        assert np.array_equal(got, want), stage


@pytest.mark.parametrize("name", ["circuit_tracer_clt-relu", "circuit_tracer_clt-jumprelu"])
def test_cross_layer_ones_are_written_as_they_were(name, tmp_path):
    clt = rt.load(GOLDEN / name)
    model = CrossLayerModel(clt.config, clt.params, clt.origin)
    back = rt.load(write(model, tmp_path / "out", "circuit_tracer_clt", force=False))
    assert difference(model, CrossLayerModel(back.config, back.params)) is None
    assert (back.origin.model, back.origin.hook_in) == (clt.origin.model, clt.origin.hook_in)
    with pytest.raises(FileError, match="cannot say that features write to several layers"):
        write(model, tmp_path / "other", "saelens", force=False)
    one = rt.load(GOLDEN / "circuit_tracer-relu")
    with pytest.raises(FileError, match="cannot say that features write to one layer"):
        write(Model(one.config, one.params), tmp_path / "other", "circuit_tracer_clt", force=False)


REFUSALS = {
    "gemma_scope": ("sae_lens-jumprelu_transcoder-bfloat16", "an output of another size"),
    "gemma_scope_2": ("sae_lens-standard", "the activation relu"),
    "circuit_tracer": ("sae_lens-jumprelu", "conventions: apply_b_dec_to_input=True"),
    "saelens": ("sparsify-skip", r"the activation topk .transcoder."),
    "sparsify": ("sae_lens-topk-rescaled", "conventions: rescale_acts_by_decoder_norm=True"),
}


@pytest.mark.parametrize("target", REFUSALS)
def test_a_refusal_names_what_would_be_lost(target, tmp_path):
    name, loss = REFUSALS[target]
    tc = rt.load(GOLDEN / name)
    with pytest.raises(FileError, match=f"format {target} cannot say {loss}"):
        write(Model(tc.config, tc.params), tmp_path / "out", target, force=False)
    assert not (tmp_path / "out").exists()


def test_a_transcoder_of_one_width_stays_one(tmp_path):
    """By where it comes from: its arrays are those of an autoencoder."""
    loaded = rt.load(GOLDEN / "llama_scope-transcoder")
    tc = loaded.folded()
    for origin, architecture in ((loaded.origin, "jumprelu_transcoder"), (None, "jumprelu")):
        folder = tmp_path / architecture
        write(Model(tc.config, tc.params, origin), folder, "saelens", force=False)
        said = json.loads((folder / "cfg.json").read_text())
        assert said["architecture"] == architecture


def test_thresholds_below_zero_are_not_written_where_they_mean_more(tmp_path):
    tc = rt.load(GOLDEN / "gemma_scope")
    theta = tc.params.own.theta - np.float32(1)
    params = dataclasses.replace(tc.params, own=JumpReLU(theta))
    with pytest.raises(FileError, match="cannot say that thresholds below zero"):
        write(Model(tc.config, params), tmp_path / "out", "circuit_tracer", force=False)


def test_a_difference_is_found():
    tc = rt.load(GOLDEN / "sparsify-topk")
    other = rt.build(input_size=6, output_size=6, dict_size=16, top_k=3)
    ours, theirs = Model(tc.config, tc.params), Model(other.config, other.params)
    assert difference(ours, theirs).startswith("options")
    assert difference(ours, Model(tc.config, other.params)) == "W_enc"


def test_convert(tmp_path, capsys):
    source, out = str(GOLDEN / "dictionary_learning-TopK"), str(tmp_path / "m.npz")
    assert cli.main(["convert", source, out]) == 0
    assert rt.load(out).config == rt.load(source).config
    assert cli.main(["convert", source, out]) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["convert", source, str(tmp_path / "s"), "--format", "sparsify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["from"]["format"] == "dictionary_learning"
    assert cli.main(["convert", source, str(tmp_path / "g"), "--format", "gemma_scope"]) == 2
    assert "cannot say the activation topk" in capsys.readouterr().err


def test_info_says_where_it_comes_from(capsys):
    assert cli.main(["info", str(GOLDEN / "circuit_tracer")]) == 0
    out = capsys.readouterr().out
    assert "format circuit_tracer, relu transcoder, stored as float32" in out
    assert "layer 7, of google/gemma-2-2b, reads ln2.hook_normalized, writes hook_mlp_out" in out


def test_our_own_files_say_that_they_are_ours(tmp_path):
    for row in FORMATS:
        path = tmp_path / f"m{row.suffix}"
        tc = rt.load(GOLDEN / "sparsify-topk")
        save(Model(tc.config, tc.params), path)
        assert rt.load(path).origin.format == "reftranscoder"
        with pytest.raises(FileError, match="Load it without options"):
            rt.load(path, top_k=3)


def test_every_reader_has_a_name_and_is_in_the_guide():
    assert tuple(row.name for row in READERS) == FORMAT_NAMES
    page = (Path(rt.__file__).parent / "guide" / "formats.rst").read_text(encoding="utf-8")
    assert all(f"``{name}``" in page for name in FORMAT_NAMES)
