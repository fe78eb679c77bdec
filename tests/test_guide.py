"""The pages of the guide say nothing that is not so: their code runs, their lists are those of the
code, their links lead somewhere; and ``reftranscoder guide`` prints them.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from docutils import nodes
from pages import GUIDE, PACKAGE, PAGES, README, blocks, document, find, page, parsed

import reftranscoder as rt
from reftranscoder import cli
from reftranscoder.formats import Model
from reftranscoder.formats.writing import write
from reftranscoder.twins import TWINS

NAMES = [path.stem for path in PAGES]


def dead_links(path, doc):
    """The links of a page, read as ``doc``, that lead to no file, or to no place in one."""
    dead = []
    for reference in doc.findall(nodes.reference):
        link = reference.get("refuri", "")
        if not link or "://" in link:
            continue
        name, _, place = link.partition("#")
        there = path.parent / name
        if not there.exists() or (place and place not in document(there).ids):
            dead.append(link)
    return dead


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    assert dead_links(path, document(path)) == []


def test_a_dead_link_is_found():
    text = "`a <nothing.rst>`_, `b <glossary.rst#nothing>`_, `c <glossary.rst#stage>`_, `d <x#y>`_"
    dead = ["nothing.rst", "glossary.rst#nothing", "x#y"]
    assert dead_links(page("design"), parsed(text)) == dead


def first_mentions(doc, term):
    """Where ``term`` first stands in the prose of a page, and where it is first linked."""
    shown = [
        node
        for node in doc.findall(nodes.Text)
        if not isinstance(node.parent, nodes.literal | nodes.literal_block | nodes.title)
    ]
    word = re.compile(rf"\b{term}s?\b", re.I)
    mention = next((i for i, text in enumerate(shown) if word.search(text)), None)
    place = f"glossary.rst#{term.replace(' ', '-')}"
    linked = [
        i
        for i, text in enumerate(shown)
        if isinstance(text.parent, nodes.reference)
        and text.parent.get("refuri", "").endswith(place)
    ]
    return mention, linked


TERMS = [
    section.next_node(nodes.title).astext().lower()
    for section in document(page("glossary")).findall(nodes.section)
]


def test_the_terms_of_the_glossary_are_in_order():
    assert TERMS and TERMS == sorted(TERMS)


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_linked_and_where_it_first_occurs(term):
    somewhere = False
    for path in [README, *PAGES]:
        mention, linked = first_mentions(document(path), term)
        assert linked in ([], [mention]), f"{path.name}: only the first {term} has a link"
        somewhere |= bool(linked)
    assert somewhere


def integers(*shape: int) -> np.ndarray:
    """Small whole numbers: sums of their products are exact in whatever order they are taken."""
    rng = np.random.default_rng(shape)
    return rng.integers(-3, 4, shape).astype(np.float64)


# Powers of two, so that means are exact as well.
B, I, D, O, K = 16, 8, 64, 4, 4
RELU, TOP_K = "relu", "top_k"


def plain(W_enc, b_enc, W_dec, b_dec, select, W_skip=None, O=O):  # noqa: E741
    """What any of these libraries computes, by the formula: x, hidden, reconstruction."""
    x = integers(B, I)
    hidden = np.maximum(x @ W_enc.T + b_enc, 0)
    if select != RELU:
        order = np.argsort(-hidden, axis=1, kind="stable")
        kth = np.take_along_axis(hidden, order[:, K - 1 : K], axis=1)
        if select == TOP_K:
            kept = np.zeros(hidden.shape, dtype=bool)
            np.put_along_axis(kept, order[:, :K], True, axis=1)
            assert (kept != (hidden >= kth)).any(), "a tie at the K-th place must occur"
        else:
            kept = hidden >= kth
        hidden = np.where(kept, hidden, 0)
    reconstruction = hidden @ W_dec + b_dec
    return x, hidden, reconstruction if W_skip is None else reconstruction + x @ W_skip.T


def edifice():
    kernel_enc, kernel_dec = integers(I, D), integers(D, O)
    state = {
        "transcoder_encoder": {"kernel": kernel_enc, "bias": integers(D)},
        "transcoder_decoder": {"kernel": kernel_dec, "bias": integers(O)},
    }
    biases = state["transcoder_encoder"]["bias"], state["transcoder_decoder"]["bias"]
    return state, plain(kernel_enc.T, biases[0], kernel_dec, biases[1], "keep_all")


def saelens():
    state = {"W_enc": integers(I, D), "b_enc": integers(D), "W_dec": integers(D, O)}
    state |= {"b_dec": integers(O), "W_skip": integers(O, I)}
    arrays = state["W_enc"].T, state["b_enc"], state["W_dec"], state["b_dec"]
    return state, plain(*arrays, RELU, state["W_skip"])


def sparsify():
    state = {"encoder.weight": integers(D, I), "encoder.bias": integers(D)}
    state |= {"W_dec": integers(D, I), "b_dec": integers(I), "W_skip": integers(I, I)}
    *arrays, W_skip = state.values()
    return state, plain(*arrays, TOP_K, W_skip)


def dictionary_learning():
    state = {"encoder.weight": integers(D, I), "encoder.bias": integers(D), "k": np.int32(K)}
    state |= {"decoder.weight": integers(I, D), "b_dec": integers(I)}
    W_enc, b_dec = state["encoder.weight"], state["b_dec"]
    x = integers(B, I)
    # It subtracts b_dec from x: here that stands in the product, x - b_dec against x.
    _, hidden, reconstruction = plain(
        W_enc, (x - b_dec) @ W_enc.T - x @ W_enc.T + state["encoder.bias"],
        state["decoder.weight"].T, b_dec, TOP_K,
    )  # fmt: skip
    return state, (x, hidden, reconstruction)


def pytorch():
    state = {"encoder.weight": integers(D, I), "encoder.bias": integers(D)}
    state |= {"decoder.weight": integers(O, D), "decoder.bias": integers(O)}
    W_enc, b_enc, decoder, b_dec = state.values()
    return state, plain(W_enc, b_enc, decoder.T, b_dec, TOP_K)


LIBRARIES = {
    "Edifice": edifice,
    "SAELens": saelens,
    "sparsify": sparsify,
    "dictionary_learning": dictionary_learning,
    "PyTorch": pytorch,
}


@pytest.mark.parametrize("title", LIBRARIES)
def test_coming_from(title):
    (code,) = blocks(page("coming_from"), title)
    state, (x, hidden, reconstruction) = LIBRARIES[title]()
    target = integers(*reconstruction.shape, 1)[..., 0]
    names = {"rt": rt, "state": state, "cfg": {"k": K}, "x": x, "target": target}
    names |= {"hidden_acts": hidden, "reconstruction": reconstruction}
    exec(code.replace("top_k=32", f"top_k={K}"), names)

    tc = names["tc"]
    for backend in ("kernels", "reference"):
        assert np.array_equal(tc.encode(x, backend=backend).toarray(), hidden)
        assert np.array_equal(tc(x, backend=backend), reconstruction)

    error = reconstruction - (x if title == "dictionary_learning" else target)
    if title == "Edifice":
        want = np.mean(error**2) + 1e-3 * np.mean(np.abs(hidden))
    elif title == "sparsify":
        want = np.sum(error**2) / np.sum((target - target.mean(axis=0)) ** 2)
    elif title == "PyTorch":
        want = np.mean(error**2)
    else:
        want = np.mean(np.sum(error**2, axis=1))
    got = next(names[name] for name in ("loss", "mse_loss", "l2_loss", "fvu") if name in names)
    # Every sum is exact; a coefficient, a quotient and their sum are rounded, on both sides.
    assert abs(got - want) <= 6 * 2**-53 * want


AUDITING = page("auditing")


def test_auditing(capsys):
    code = blocks(AUDITING, "Arrays")[0]
    tc = rt.build(input_size=8, output_size=4, dict_size=64, top_k=4)
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 16, 8))
    names = {"rt": rt, "tc": tc, "x": x, "target": target[:, :4]}
    results = tc.stages(x, target[:, :4], backend="kernels")
    exec(code, names | {"results": results})
    assert "reconstruction" in capsys.readouterr().out

    results["reconstruction"] = results["reconstruction"] * 1.01
    with pytest.raises(AssertionError, match="reconstruction"):
        exec(code, names | {"results": results})


def test_auditing_a_torch_module():
    torch = pytest.importorskip("torch", reason="the module audited is one of torch")

    class Module(torch.nn.Module):
        def __init__(self, input_size, dict_size, output_size, top_k):
            super().__init__()
            self.encoder = torch.nn.Linear(input_size, dict_size)
            self.decoder = torch.nn.Linear(dict_size, output_size)
            self.top_k = top_k

        def forward(self, x):
            acts = torch.relu(self.encoder(x))
            best = acts.topk(self.top_k, dim=1)
            hidden = torch.zeros_like(acts).scatter(1, best.indices, best.values)
            return self.decoder(hidden), hidden

    code = blocks(AUDITING, "A function")[0]
    tc = rt.build(input_size=8, output_size=4, dict_size=64, top_k=5)
    names = {"rt": rt, "tc": tc, "torch": torch}
    exec(code, names | {"module": Module(8, 64, 4, top_k=5)})
    with pytest.raises(AssertionError, match="hidden.*6 features"):
        exec(code, names | {"module": Module(8, 64, 4, top_k=6)})


def test_auditing_functions_of_jax():
    jax = pytest.importorskip("jax", reason="the functions audited are of JAX")
    jnp = jax.numpy

    def functions(bias):
        def forward(params, x):
            acts = jax.nn.relu(x @ params["W_enc"].T + params["b_enc"])
            values, indices = jax.lax.top_k(acts, 5)
            hidden = jnp.put_along_axis(jnp.zeros_like(acts), indices, values, 1, inplace=False)
            return hidden, hidden @ params["W_dec"] + bias * params["b_dec"]

        def loss(params, x, target):
            hidden, reconstruction = forward(params, x)
            error = reconstruction - target
            return jnp.mean(error**2) + 1e-3 * jnp.mean(jnp.abs(hidden))

        return {"forward": forward, "loss": loss}

    code = blocks(AUDITING, "A function")[1]
    tc = rt.build(input_size=8, output_size=4, dict_size=64, top_k=5)
    names = {"rt": rt, "tc": tc, "jax": jax}
    exec(code, names | functions(bias=1))
    with pytest.raises(AssertionError, match="reconstruction: b_dec is not added"):
        exec(code, names | functions(bias=0))


def test_auditing_a_folder_of_cases(tmp_path, capsys):
    """The commands, with a program in their middle that reads and writes as the folder says."""
    commands = [line.split() for line in blocks(AUDITING, "Another language")[0].splitlines()]
    folder = tmp_path / "cases"

    def run(words):
        assert words[0] == "reftranscoder"
        return cli.main([str(folder) if word == "DIR" else word for word in words[1:]])

    def your_program(folder):
        for name in json.loads((folder / "cases.json").read_text())["cases"]:
            about = json.loads((folder / name / "case.json").read_text())
            with np.load(folder / name / "input.npz") as archive:
                given = dict(archive)
            x, target = given.pop("x"), given.pop("target")
            options = {option: about[option] for option in ("top_k", "activation", "ties")}
            tc = rt.Transcoder.from_arrays(**given, **options)
            stages = tc.stages(x, target, about["l1_coeff"], check_finite=False)
            stages["hidden"] = stages["hidden"].toarray()
            np.savez(folder / name / "results.npz", **stages)

    assert run(commands[0]) == 0
    assert commands[1] == ["your-program", "DIR"]
    your_program(folder)
    assert run(commands[2]) == 0
    assert " 0 failed, 0 not judged" in capsys.readouterr().out


def test_the_pairs_are_those_of_the_table():
    section = find(page("pairs"), "The pairs")
    listed = {
        item.next_node(nodes.term).astext(): " ".join(
            item.next_node(nodes.definition).astext().split()
        )
        for item in section.findall(nodes.definition_list_item)
    }
    alone = "No kernel: "
    assert listed == {
        twin.name: ("" if twin.kernel else alone) + " ".join(twin.why.split()) for twin in TWINS
    }


def test_where_to_add_what_names_files_that_are_there():
    """Every ``folder/`` and ``file.py`` that contributing.rst names is one of the package's."""
    tables = find(page("contributing"), "Where to add what")
    named = {
        text.astext()
        for text in tables.findall(nodes.literal)
        if re.fullmatch(r"[\w/]+(/|\.py)", text.astext())
    }
    assert len(named) > 20
    roots = (PACKAGE, GUIDE.parent.parent)
    assert [n for n in sorted(named - IN_A_ROOM) if not any((r / n).exists() for r in roots)] == []


#: The text before says in which folders.
IN_A_ROOM = {"encode.py", "interval.py", "products.py"}
IN_A_ROOM |= {"forward_faults.py", "gradient_faults.py", "selections.py", "estimated_faults.py"}


def test_the_list_of_pages(capsys):
    assert cli.main(["guide"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert lines[NAMES.index("glossary")].split() == ["glossary", "Glossary"]
    assert cli.main(["guide", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["pages"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_page_in_the_terminal(name, capsys):
    assert cli.main(["guide", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(document(page(name))["title"])
    assert not re.search(r"``|`_|_`|code-block", out)
    words = re.sub(r"\W+", " ", document(page(name)).astext())
    assert len(re.sub(r"\W+", " ", out)) >= len(words)  # what renders is printed
    assert cli.main(["guide", name, "--json"]) == 0
    text = json.loads(capsys.readouterr().out)["text"]
    assert text == page(name).read_text(encoding="utf-8").rstrip("\n")


def test_a_page_that_is_not_there(capsys):
    assert cli.main(["guide", "nothing"]) == 2
    err = capsys.readouterr().err
    assert "PAGE must be one of auditing, " in err and err.count("\n") == 1


def test_from_what_the_hub_leaves_to_text(tmp_path, monkeypatch, capsys):
    """With two small transcoders in place of those that somebody would have downloaded."""
    hub = tmp_path / "hub" / "models--you--transcoders"
    for layer in (3, 15):
        tc = rt.build(input_size=576, output_size=576, dict_size=32, top_k=4, seed=layer)
        path = write(Model(tc.config, tc.params), tmp_path / str(layer), "sparsify", force=False)
        folder = hub / "snapshots" / "abc123" / f"layers.{layer}.mlp"
        for place in (folder, hub / "blobs", hub / "refs"):
            place.mkdir(parents=True, exist_ok=True)
        for file in path.parent.iterdir():
            blob = hub / "blobs" / f"{layer}{file.stem}"
            file.rename(blob)
            (folder / file.name).symlink_to(f"../../../blobs/{blob.name}")
    (hub / "refs" / "main").write_text("abc123")
    monkeypatch.chdir(tmp_path)
    (code,) = [text for text in blocks(page("formats"), "Formats") if text.startswith("import")]
    assert len(code.splitlines()) <= 11
    names = {}
    exec(code, names)
    assert names["tc"].origin.layer == 15
    said = capsys.readouterr().out.splitlines()
    assert "layer=3" in said[0] and "layer=15" in said[0] and len(said) == 6
    hidden = names["tc"].encode(names["x"]).toarray()
    strongest = int(hidden[:, 0].argmax())
    words = names["words"]
    assert said[1] == repr("".join(words[max(0, strongest - 4) : strongest + 1]))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("training", "Harvesting"),
        ("training", "Past one machine"),
        ("measuring", "Which definition is a reported number?"),
        ("variants", "Cross-layer"),
    ],
)
def test_the_code_of_a_page_runs(name, title, tmp_path, monkeypatch):
    (code,) = blocks(page(name), title)
    monkeypatch.chdir(tmp_path)
    if "distributed" in code:
        pytest.importorskip("distributed", reason="an extra: reftranscoder[distributed]")
    exec(code, {"__name__": "__main__"})
