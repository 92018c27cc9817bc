import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxattn
from jaxattn.data.sources.planted_shortcut import planted_shortcut
from jaxattn.nn import edits

B, T, D, H = 5, 4, 8, 2
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(B, T, D)), jnp.float32)
VALID = np.arange(T) < np.array([4, 3, 2, 4, 1])[:, None]
MAY = jnp.asarray(VALID[:, None, None, :])
KEY = jax.random.key(3)


class Block(nn.Module):
    """A stranger's code: nothing in it knows of sowing."""

    @nn.compact
    def __call__(self, x, mask=None):
        seen = nn.MultiHeadDotProductAttention(H, name="attention")(x, mask=mask)
        return x + nn.Dense(D)(nn.gelu(seen))


class Encoder(nn.Module):
    layers: int = 2
    block: type = Block

    @nn.compact
    def __call__(self, x, mask=None):
        for i in range(self.layers):
            x = self.block(name=f"layer_{i}")(x, mask)
        return x


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x, mask=None):
        return nn.Dense(3)(Encoder(name="encoder")(x, mask)[:, 0])


class NnxBlock(nnx.Module):
    def __init__(self, rngs, **more):
        self.attention = nnx.MultiHeadAttention(H, D, decode=False, rngs=rngs, **more)
        self.dense = nnx.Linear(D, D, rngs=rngs)

    def __call__(self, x, mask=None):
        return x + self.dense(nnx.gelu(self.attention(x, mask=mask)))


class NnxClassifier(nnx.Module):
    def __init__(self, rngs, **more):
        self.layers = nnx.List([NnxBlock(rngs, **more) for _ in range(2)])
        self.head = nnx.Linear(D, 3, rngs=rngs)

    def __call__(self, x, mask=None):
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x[:, 0])


@contextlib.contextmanager
def refused(said):
    """With a ValueError of one line that says so."""
    with pytest.raises(ValueError, match=said) as told:
        yield
    assert "\n" not in str(told.value)


def linen():
    model = Classifier()
    return model, model.init(jax.random.key(0), X)


def other():
    return NnxClassifier(nnx.Rngs(0)), None  # its own variables


def plain(model, variables, *inputs):
    return model(*inputs) if variables is None else model.apply(variables, *inputs)


NAMES = {
    "linen": ("encoder/layer_0/attention", "encoder/layer_1/attention"),
    "nnx": ("layers/0/attention", "layers/1/attention"),
}
BOTH = pytest.mark.parametrize("api", ["linen", "nnx"])


def made(api):
    return {"linen": linen, "nnx": other}[api]()


def weights_by_hand(params, x, mask):
    """The definition, written out: softmax of scaled products, heads by heads."""
    q, k = (
        np.einsum("btd,dhe->bthe", x, params[n]["kernel"]) + params[n]["bias"]
        for n in ("query", "key")
    )
    scores = np.einsum("bqhe,bkhe->bhqk", q, k) / np.sqrt(D // H)
    scores = np.where(mask, scores, -np.inf)
    shifted = np.exp(scores - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


@BOTH
def test_masks_are_what_the_layers_computed(api):
    model, variables = made(api)
    found = jaxattn.capture(model, variables, X, MAY)
    assert found.layers == NAMES[api]
    assert all(w.shape == (B, H, T, T) for w in found.masks.values())
    np.testing.assert_allclose(found.output, plain(model, variables, X, MAY), atol=1e-6)
    if api == "linen":
        params = variables["params"]["encoder"]["layer_0"]["attention"]
    else:
        params = nnx.to_pure_dict(nnx.state(model.layers[0].attention, nnx.Param))
    by_hand = weights_by_hand(jax.tree.map(np.asarray, params), X, MAY)
    np.testing.assert_allclose(found.layer(0), by_hand, atol=1e-5)
    assert (np.asarray(found.cls())[~VALID[:, None].repeat(H, 1)] == 0).all()


@BOTH
def test_the_model_is_left_as_it_was(api):
    model, variables = made(api)
    before = plain(model, variables, X)
    jaxattn.capture(model, variables, X)
    jaxattn.intervene(model, variables, {NAMES[api][0]: edits.uniform}, X)
    np.testing.assert_array_equal(plain(model, variables, X), before)
    if api == "nnx":
        kinds = {type(module) for _, module in nnx.iter_modules(model)}
        own = {NnxClassifier, NnxBlock, nnx.MultiHeadAttention, nnx.Linear}
        assert own <= kinds <= own | {nnx.List, nnx.LinearGeneral}


@BOTH
def test_it_runs_under_jit_vmap_and_grad_and_keeps_the_order(api):
    model, variables = made(api)
    if api == "nnx":
        variables = nnx.state(model)
    found = jax.jit(lambda v, x: jaxattn.capture(model, v, x, MAY))(variables, X)
    eager = jaxattn.capture(model, variables, X, MAY)
    assert found.layers == eager.layers == NAMES[api]
    for name in found.layers:
        np.testing.assert_allclose(found.masks[name], eager.masks[name], atol=1e-6)
    two = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), variables)
    both = jax.vmap(lambda v: jaxattn.capture(model, v, X).cls())(two)
    assert both.shape == (2, B, H, T) and np.abs(both[0] - both[1]).max() > 1e-3
    slope = jax.grad(lambda v: (jaxattn.capture(model, v, X).cls() ** 2).sum())(
        variables
    )
    assert max(np.abs(g).max() for g in jax.tree.leaves(slope)) > 1e-4


def test_nnx_takes_a_state_of_its_own():
    model, _ = other()
    doubled = jax.tree.map(lambda a: 2 * a, nnx.state(model, nnx.Param))
    twice = nnx.clone(model)
    nnx.update(twice, doubled)
    found = jaxattn.capture(model, doubled, X)
    np.testing.assert_allclose(found.output, twice(X), atol=1e-6)
    assert np.abs(found.output - model(X)).max() > 0.01


def test_rows_layers_and_heads_by_name():
    model, variables = linen()
    found = jaxattn.capture(model, variables, X)
    last = found.masks["encoder/layer_1/attention"]
    np.testing.assert_array_equal(found.layer(), last)
    np.testing.assert_array_equal(found.layer("encoder/layer_1/attention"), last)
    np.testing.assert_array_equal(found.cls(), last[:, :, 0])
    np.testing.assert_array_equal(found.cls(head=1), last[:, 1, 0])
    np.testing.assert_array_equal(found.cls(query=-1, head=0), last[:, 0, -1])
    for ask, said in (
        (lambda: found.layer("encoder/layer_2/attention"), "perhaps you meant"),
        (lambda: found.layer(2), "there are encoder/layer_0"),
        (lambda: found.cls(head=2), "head = 2: there are 2"),
        (lambda: found.cls(query=9), "query = 9: there are 4"),
        (lambda: found.rollout([]), "a layer at least"),
    ):
        with refused(said):
            ask()


def test_rollout_is_the_product_of_half_attention_half_identity():
    model, variables = linen()
    found = jaxattn.capture(model, variables, X, MAY)
    steps = [
        np.asarray(found.masks[n]).mean(1) / 2 + np.eye(T) / 2 for n in found.layers
    ]
    rolled = found.rollout()
    np.testing.assert_allclose(rolled, steps[1] @ steps[0], atol=1e-6)
    np.testing.assert_allclose(rolled.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found.rollout([0]), steps[0], atol=1e-6)
    assert (np.asarray(rolled[:, 0])[~VALID] == 0).all()


def test_rollout_refuses_layers_that_look_elsewhere():
    class Crossed(nn.Module):
        @nn.compact
        def __call__(self, x, y):
            x = nn.MultiHeadDotProductAttention(H, name="own")(x)
            return nn.MultiHeadDotProductAttention(H, name="cross")(x, y)

    model = Crossed()
    y = X[:, :3]
    found = jaxattn.capture(model, model.init(KEY, X, y), X, y)
    assert found.layers == ("own", "cross")
    assert found.masks["cross"].shape == (B, H, T, 3)
    with pytest.raises(ValueError, match="layer cross has 4 queries and 3 keys"):
        found.rollout()
    assert found.rollout(["own"]).shape == (B, T, T)


def test_captured_rows_go_straight_into_the_audit():
    """A model whose CLS row is the planted mask: the audit finds the planted bits."""
    masks, labels = planted_shortcut(jax.random.key(0), 600, 0.5)

    def by_scores(query, key, value, module=None, **more):
        rows = jnp.log(masks)[:, None, None]
        weights = jax.nn.softmax(jnp.repeat(rows, query.shape[1], 2))
        if module is not None:
            module.sow("intermediates", "attention_weights", weights)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value)

    model = nn.MultiHeadDotProductAttention(1, attention_fn=by_scores)
    given = model.init(KEY, masks[..., None]), masks[..., None]
    found = jaxattn.capture(model, *given)
    np.testing.assert_allclose(found.cls(head=0), masks, atol=1e-5)
    report = jaxattn.audit(found.cls(), labels, permutations=19)
    planted = jaxattn.audit(masks, labels, permutations=19)
    assert report.masks.bits == pytest.approx(planted.masks.bits, abs=0.02)
    assert 0.3 < report.masks.bits < 0.55
    overruled, again = (
        jaxattn.intervene(model, given[0], {"attention": uniform}, given[1])
        for uniform in (edits.uniform, jnp.full((600, 1, 8, 8), 1 / 8))
    )
    np.testing.assert_allclose(overruled, again, atol=1e-6)


def test_shared_scanned_and_remat_layers_have_a_name_for_each_call():
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.MultiHeadDotProductAttention(H, name="attention")
            return layer(layer(x))

    model = Shared()
    variables = model.init(KEY, X)
    found = jaxattn.capture(model, variables, X)
    assert found.layers == ("attention/0", "attention/1")
    assert np.abs(found.layer(0) - found.layer(1)).max() > 1e-3

    class Carry(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return Block(name="block")(x), None

    def scanned(axes):
        return nn.scan(
            Carry, variable_axes=axes, split_rngs={"params": True}, length=3
        )()

    model = scanned({"params": 0, "intermediates": 0})
    variables = model.init(KEY, X, None)
    found = jaxattn.capture(model, variables, X, None)
    assert found.layers == tuple(f"block/attention/{i}" for i in range(3))
    assert found.layer(2).shape == (B, H, T, T)
    first = jax.tree.map(lambda a: a[0], variables["params"]["block"]["attention"])
    np.testing.assert_allclose(
        found.layer(0), weights_by_hand(first, X, True), atol=1e-5
    )
    with refused("in nn.scan give variable_axes"):
        jaxattn.capture(scanned({"params": 0}), variables, X, None)
    changed = jaxattn.intervene(
        model, variables, {"block/attention": lambda w: w}, X, None
    )
    np.testing.assert_allclose(changed[0], found.output[0], atol=1e-5)

    model = Encoder(block=nn.remat(Block))
    found = jaxattn.capture(model, model.init(KEY, X), X)
    assert found.layers == ("layer_0/attention", "layer_1/attention")


def test_scanned_nnx_layers_have_a_name_for_each_step():
    class Scanned(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=3)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def make(rngs):
                return NnxBlock(rngs)

            self.blocks = make(rngs)

        def __call__(self, x):
            @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
            def go(block, x):
                return block(x)

            return go(self.blocks, x)

    model = Scanned(nnx.Rngs(0))
    found = jaxattn.capture(model, None, X)
    assert found.layers == tuple(f"blocks/attention/{i}" for i in range(3))
    np.testing.assert_allclose(found.output, model(X), atol=1e-6)
    same = jaxattn.intervene(model, None, {"blocks/attention": lambda w: w}, X)
    np.testing.assert_allclose(same, found.output, atol=1e-5)


def test_grouped_queries_share_their_values():
    layer = nnx.MultiHeadAttention(4, D, num_kv_heads=2, decode=False, rngs=nnx.Rngs(1))
    found = jaxattn.capture(layer, None, X)
    assert found.layers == ("attention",)
    assert found.layer().shape == (B, 4, T, T)
    same = jaxattn.intervene(layer, None, {"attention": lambda w: w}, X)
    np.testing.assert_allclose(same, layer(X), atol=1e-5)


@pytest.mark.filterwarnings("ignore:SelfAttention will be deprecated")
def test_a_subclass_that_calls_its_parent_is_one_layer():
    model = nn.Sequential([nn.SelfAttention(H)])
    variables = model.init(KEY, X)
    found = jaxattn.capture(model, variables, X)
    assert found.layers == ("layers_0",) and found.layer().shape == (B, H, T, T)
    same = jaxattn.intervene(model, variables, {"layers_0": lambda w: w}, X)
    np.testing.assert_allclose(same, found.output, atol=1e-5)


def test_methods_options_and_streams_are_the_models_own():
    class Dropped(nn.Module):
        @nn.compact
        def encode(self, x, train):
            return nn.MultiHeadDotProductAttention(
                H, dropout_rate=0.9, name="attention"
            )(x, deterministic=not train)

    model = Dropped()
    variables = model.init(KEY, X, False, method="encode")
    ask = {"method": "encode", "rngs": {"dropout": KEY}, "train": True}
    found = jaxattn.capture(model, variables, X, **ask)
    still = jaxattn.capture(model, variables, X, method="encode", train=False)
    # What is captured are the weights before dropout.
    np.testing.assert_allclose(found.layer(), still.layer(), atol=1e-6)
    assert np.abs(found.output - still.output).max() > 1e-3
    kept = jaxattn.intervene(model, variables, {"attention": lambda w: w}, X, **ask)
    np.testing.assert_allclose(kept, still.output, atol=1e-5)


@BOTH
def test_an_edit_that_changes_nothing_changes_nothing(api):
    model, variables = made(api)
    found = jaxattn.capture(model, variables, X, MAY)
    ways = ({name: lambda w: w for name in found.layers}, found.masks, {})
    for masks in ways:
        same = jaxattn.intervene(model, variables, masks, X, MAY)
        np.testing.assert_allclose(same, found.output, atol=1e-5)


@BOTH
def test_the_given_mask_is_what_the_layer_uses(api):
    """By hand: values of the last layer under any weights, and on to the logits."""
    model, variables = made(api)
    name = NAMES[api][1]
    given = jax.nn.softmax(jax.random.normal(KEY, (B, H, T, T)))
    found = jax.jit(lambda m: jaxattn.intervene(model, variables, {name: m}, X))(given)
    if api == "linen":
        params = variables["params"]
        x = Block().apply({"params": params["encoder"]["layer_0"]}, X)
        part, head = params["encoder"]["layer_1"], params["Dense_0"]
        attention, dense = part["attention"], part["Dense_0"]
    else:
        x = model.layers[0](X)
        layer = nnx.to_pure_dict(nnx.state(model.layers[1], nnx.Param))
        attention, dense = layer["attention"], layer["dense"]
        head = nnx.to_pure_dict(nnx.state(model.head, nnx.Param))
    value = jnp.einsum("btd,dhe->bthe", x, attention["value"]["kernel"])
    value = value + attention["value"]["bias"]
    out = jnp.einsum("bhqk,bkhe->bqhe", given, value)
    out = jnp.einsum("bqhe,hed->bqd", out, attention["out"]["kernel"])
    out = jax.nn.gelu(out + attention["out"]["bias"])
    x = x + out @ dense["kernel"] + dense["bias"]
    by_hand = x[:, 0] @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(found, by_hand, atol=1e-4)
    slope = jax.grad(
        lambda m: (jaxattn.intervene(model, variables, {name: m}, X) ** 2).sum()
    )(given)
    assert np.abs(slope[:, :, 0]).max() > 1e-4
    np.testing.assert_array_equal(slope[:, :, 1:], 0)  # only CLS is read


def test_edits_keep_to_where_a_layer_may_look():
    weights = jaxattn.capture(*linen(), X, MAY).layer()
    may = np.broadcast_to(MAY, weights.shape)
    for edit in (edits.uniform, edits.random(KEY), edits.foreign(KEY)):
        found = np.asarray(edit(weights))
        assert found.shape == weights.shape and (found[~may] == 0).all()
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    flat = may / may.sum(-1, keepdims=True)
    np.testing.assert_allclose(edits.uniform(weights), flat, atol=1e-6)
    assert np.abs(edits.random(KEY)(weights) - flat).max() > 0.1


def test_foreign_weights_are_one_other_examples():
    weights = np.asarray(jaxattn.capture(*linen(), X).layer())
    found = np.asarray(edits.foreign(KEY)(jnp.asarray(weights)))
    sources = [
        [j for j in range(B) if np.allclose(found[i], weights[j], atol=1e-6)]
        for i in range(B)
    ]
    assert all(len(s) == 1 and s[0] != i for i, s in enumerate(sources))
    assert sorted(s[0] for s in sources) == list(range(B))


def test_only_one_head_or_one_row_is_edited():
    weights = jaxattn.capture(*linen(), X).layer()
    edited = np.array(edits.only(edits.uniform, head=1, query=0)(weights))
    np.testing.assert_allclose(edited[:, 1, 0], 1 / T, atol=1e-6)
    edited[:, 1, 0] = weights[:, 1, 0]
    np.testing.assert_array_equal(edited, weights)
    one = np.asarray(edits.only(jnp.eye(T)[2], query=-1)(weights))
    np.testing.assert_array_equal(
        one[:, :, -1], np.eye(T)[None, None, 2].repeat(B, 0).repeat(H, 1)
    )
    for wrong, said in ((dict(head=2), "head = 2"), (dict(query=-5), "query = -5")):
        with pytest.raises(ValueError, match=said):
            edits.only(edits.uniform, **wrong)(weights)


def deaf(query, key, value, mask=None):
    return value


def silent(query, key, value, mask=None, module=None):
    return value


@pytest.mark.parametrize(
    ("attend", "said"),
    [(deaf, "takes no module"), (silent, "not sown"), (None, "no attention layer")],
)
def test_layers_that_tell_nothing_are_said_in_one_line(attend, said):
    model = nn.Dense(2)
    if attend:
        layer = nn.MultiHeadDotProductAttention(H, attention_fn=attend)
        model = nn.Sequential([layer])
    variables = model.init(KEY, X)
    with refused(said):
        jaxattn.capture(model, variables, X)
    if attend:
        with refused("layer layers_0"):
            jaxattn.intervene(model, variables, {"layers_0": edits.uniform}, X)


@BOTH
def test_wrong_masks_are_refused_in_one_line(api):
    model, variables = made(api)
    name = NAMES[api][0]
    missing = f"no attention layer 'layer_9' was called; there are {name}"
    for masks, said in (
        ({"layer_9": edits.uniform}, missing),
        ({name: jnp.ones((B, 3, T, T))}, rf"{name}: weights of shape \[5, 3, 4, 4\]"),
        ({name: lambda w: w[..., :2]}, r"do not fit \[5, 2, 4, 4\]"),
    ):
        with refused(said):
            jaxattn.intervene(model, variables, masks, X)


def test_variables_must_be_variables():
    model, variables = linen()
    for wrong in (variables["params"], None, X):
        with pytest.raises(ValueError, match="no collection 'params'"):
            jaxattn.capture(model, wrong, X)


def test_weights_that_a_model_sows_itself_are_kept_too():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            weights = jax.nn.softmax(nn.Dense(1)(x)[..., 0])
            self.sow("intermediates", "attention_weights", weights[:, None, None])
            return (weights[..., None] * x).sum(1)

    class Whole(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.MultiHeadDotProductAttention(H, name="z_first")(x)
            return Own(name="pool")(x)

    model = Whole()
    found = jaxattn.capture(model, model.init(KEY, X), X)
    assert found.layers == ("z_first", "pool")
    assert found.cls().shape == (B, 1, T)


def test_any_transformer_is_a_select_and_a_predict():
    """The layer's CLS row as the mask: every kind of loss moves its queries."""
    model, variables = linen()
    name = "encoder/layer_1/attention"

    def select(params, batch, key):
        return jaxattn.capture(model, params, batch).cls(name)

    def predict(params, batch, masks):
        row = edits.only(masks[:, :, None], query=0)
        return jaxattn.intervene(model, params, {name: row}, batch)

    labels = np.arange(B) % 3
    own = predict(variables, X, select(variables, X, KEY))
    np.testing.assert_allclose(own, model.apply(variables, X), atol=1e-5)
    for method in ("joint", "mask_swap", "instance_weighting"):
        made = jaxattn.mask_neutral(method, select, predict)
        state = made.init(KEY, variables, X)
        loss = lambda p: made.loss(p, state, X, labels, KEY, None, np.arange(B))  # noqa: B023, E731
        slope, (_, told) = jax.jit(jax.grad(loss, has_aux=True))(variables)
        assert np.isfinite(optax.tree.norm(slope))
        query = slope["params"]["encoder"]["layer_1"]["attention"]["query"]["kernel"]
        assert np.abs(query).max() > 1e-6
