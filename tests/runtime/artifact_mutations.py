"""Random changes of an artifact, from flipped bits to forged members with the right hashes.

A `Mutation` names its kind, the bytes, and what it left alone: `bytes` changes must be refused, `spec` and
`weights` changes leave the step as it was, so whatever still loads computes what the original computes;
`step` changes may compute anything.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import onnx
from onnx import AttributeProto, TensorProto, helper

from mcsd_agent.runtime.package import MEMBERS, SPEC, STEP, WEIGHTS, pack


class Mutation(NamedTuple):
    kind: str
    data: bytes
    changed: str


Members = dict[str, bytes]

#: Numbers at which readers and compiled code tend to break.
INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    -2,
    255,
    256,
    65536,
    10**6,
    2**31 - 1,
    -(2**31),
    2**32,
    2**40,
    2**62,
    2**63 - 1,
    -(2**63),
)
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2**31, 2**63, 10**30, -(10**400), 0.0, -0.5, 1e-320, 1e308, 1e999, -1e999, float("nan")),
    *(True, False, None, "", "x", "float32", "object", "\x1b[31m\n\ud800", "a" * 5000, [], {}, [[]], {"kind": "box"}),
    *([1] * 100, [-1], [2**62, 2**62], ["1"], [None], {"words": [], "max_words": 10**12}, {"__class__": 1}),
)
OPERATORS = (
    *("Loop", "If", "Scan", "NonZero", "Unique", "Compress", "RandomNormal", "StringConcat", "Optional", "Resize"),
    *("SequenceAt", "Hardmax", "Mod", "Div", "Range", "Tile", "Expand", "ConstantOfShape", "OneHot", "Pad", "MatMul"),
    *("Gather", "GatherND", "ScatterND", "ScatterElements", "Conv", "MaxPool", "AveragePool", "GRU", "LSTM", "Einsum"),
    *("Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "TopK", "CumSum", "Trilu", "Softmax", "ArgMax"),
    *("ReduceSum", "ReduceProd", "LayerNormalization", "GroupNormalization", "Cast", "Pow", "Sqrt", "Log", "Where"),
    *("Shape", "Size", "Gemm", "Identity", "Transpose", "InstanceNormalization", "BatchNormalization", "GridSample"),
    *("QuickGelu", "RotaryEmbedding", "SimplifiedLayerNormalization", "DequantizeLinear", "MatMulInteger"),
)


def mutate(members: Members, rng: random.Random) -> Mutation:
    """One random change of the artifact with these members."""
    changed = rng.choices(("bytes", "spec", "weights", "step"), (3, 3, 2, 4))[0]
    kinds = {"bytes": _BYTES, "spec": _SPEC, "weights": _WEIGHTS, "step": _STEP}[changed]
    change = rng.choice(kinds)
    name = f"{changed}.{change.__name__.strip('_')}"
    return Mutation(name, change(dict(members), rng), changed)


def forged(members: Members, **changes: bytes) -> bytes:
    """The members with changes, and hashes and layout brought up to date."""
    parts = members | changes
    spec = json.loads(parts[SPEC])
    spec["sha256"] = {name: hashlib.sha256(parts[name]).hexdigest() for name in (WEIGHTS, STEP)}
    return pack({name: parts[name] for name in MEMBERS} | {SPEC: json.dumps(spec).encode()})


def _spliced(data: bytes, rng: random.Random) -> bytes:
    """A few changes of the bytes themselves: flips, cuts, copies of other places."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, length = rng.randrange(len(out) + 1), rng.choice((0, 1, 1, 2, 4, 8, 64))
        other = rng.randrange(len(out) + 1)
        new = rng.choice((rng.randbytes(length), bytes(length), b"\xff" * length, bytes(out[other : other + length])))
        if rng.random() < 0.5 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        else:
            out[at : at + rng.choice((0, length))] = new
    return bytes(out)


# --- the file ---------------------------------------------------------------------------------------


def _anywhere(members: Members, rng: random.Random) -> bytes:
    return _spliced(pack(members), rng)


def _shortened(members: Members, rng: random.Random) -> bytes:
    data = pack(members)
    return data[: rng.randrange(len(data))] if rng.random() < 0.7 else data[rng.randrange(1, len(data)) :]


def _header(members: Members, rng: random.Random) -> bytes:
    """A field of a local header or of the directory."""
    data = bytearray(pack(members))
    starts = [i for i in range(len(data)) if data[i : i + 4] in (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06")]
    at = rng.choice(starts) + 4 + 2 * rng.randrange(12)
    data[at : at + 2] = struct.pack("<H", rng.choice((0, 1, 8, 0x800, 0xFFFF, rng.randrange(65536))))
    return bytes(data)


def _other_members(members: Members, rng: random.Random) -> bytes:
    names = list(members)
    name, other = rng.sample(names, 2)
    how = rng.randrange(6)
    if how == 0:
        del members[name]
    elif how == 1:
        members[rng.choice(("evil.py", "../evil", "spec.json ", "a" * 300, "SPEC.JSON", "step.onnx.data"))] = b"x"
    elif how == 2:
        members[name], members[other] = members[other], members[name]
    elif how == 3:
        rng.shuffle(names)
        members = {n: members[n] for n in names}
    elif how == 4:
        one = pack({name: members[name]})
        return one[: one.index(b"PK\x01\x02")] + pack(members)
    else:  # and its hash left as it was
        name = rng.choice((WEIGHTS, STEP))
        members[name] = _spliced(members[name], rng)
    return pack(members)


# --- spec.json --------------------------------------------------------------------------------------


def _repacked(members: Members, spec: Any) -> bytes:
    return pack(members | {SPEC: json.dumps(spec).encode()})


def _spec_layout(members: Members, rng: random.Random) -> bytes:
    """The same JSON, spaced and ordered differently: another file with the same meaning."""
    spec = json.loads(members[SPEC])
    items = list(spec.items())
    rng.shuffle(items)
    text = json.dumps(dict(items), indent=rng.choice((None, 0, 2)), ensure_ascii=rng.random() < 0.5)
    return pack(members | {SPEC: text.encode()})


def _spec_metadata(members: Members, rng: random.Random) -> bytes:
    spec = json.loads(members[SPEC])
    spec["metadata"][rng.choice(("note", "later", "\x1b[2J"))] = rng.choice(VALUES)
    return _repacked(members, spec)


def _spec_value(members: Members, rng: random.Random) -> bytes:
    """A value anywhere in the tree becomes another, or goes, or a key is added or renamed."""
    spec = json.loads(members[SPEC])
    node: Any = spec
    while True:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = rng.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.7:
            node = node[key]
            continue
        how = rng.random()
        if how < 0.7:
            node[key] = rng.choice(VALUES)
        elif how < 0.8:
            del node[key]
        elif isinstance(node, dict):
            node[rng.choice(("new\nkey", "kind", "shape", "low", "requires", "x" * 3000))] = rng.choice(VALUES)
        break
    return _repacked(members, spec)


def _spec_text(members: Members, rng: random.Random) -> bytes:
    text = members[SPEC]
    deep = rng.choice((b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b"[1e9999]", b"\xff\xfe", b'"\\ud800"'))
    how = rng.randrange(3)
    if how == 0:
        return pack(members | {SPEC: _spliced(text, rng)})
    if how == 1:
        at = text.index(b'"metadata"')
        return pack(members | {SPEC: text[:at] + b'"metadata": ' + deep + text[at + 10 :]})
    return pack(members | {SPEC: text.replace(b"10.0", deep)})


# --- weights.safetensors ----------------------------------------------------------------------------


def _weights_bytes(members: Members, rng: random.Random) -> bytes:
    return forged(members, **{WEIGHTS: _spliced(members[WEIGHTS], rng)})


def _weights_header(members: Members, rng: random.Random) -> bytes:
    """Offsets that overlap, run backwards or out of the file; other types and shapes."""
    data = members[WEIGHTS]
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    name = rng.choice(sorted(header))
    entry = header[name] if isinstance(header[name], dict) else {}
    how = rng.randrange(6)
    if how == 0:
        entry["data_offsets"] = [rng.choice((*INTEGERS, 0.0, 8.0, None)) for _ in range(rng.choice((1, 2, 2, 2, 3)))]
    elif how == 1:
        entry["shape"] = rng.choice((*VALUES, [2**32, 2**32], [True, 6], [0, 2**62, 2**62], [6], [3, 2]))
    elif how == 2:
        entry["dtype"] = rng.choice(("F64", "F16", "BF16", "I8", "U8", "BOOL", "F8_E4M3", "O", *VALUES[:4]))
    elif how == 3:
        header[rng.choice(("twin", "a\nb", "__metadata__", "\ud800"))] = rng.choice((entry, *VALUES))
    elif how == 4:
        body = body[: rng.randrange(len(body) + 1)] + rng.randbytes(rng.randrange(9))
    else:
        size = rng.choice(INTEGERS) % 2**64
        text = json.dumps(header).encode()
        return forged(members, **{WEIGHTS: size.to_bytes(8, "little") + text + body})
    text = json.dumps(header).encode()
    return forged(members, **{WEIGHTS: len(text).to_bytes(8, "little") + text + body})


# --- step.onnx --------------------------------------------------------------------------------------


def _step_bytes(members: Members, rng: random.Random) -> bytes:
    return forged(members, **{STEP: _spliced(members[STEP], rng)})


def _of_model(change: Callable[[Any, random.Random], None]) -> Callable[[Members, random.Random], bytes]:
    def apply(members: Members, rng: random.Random) -> bytes:
        model = onnx.load_from_string(members[STEP])
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            change(model, rng)
        return forged(members, **{STEP: model.SerializeToString()})

    apply.__name__ = change.__name__
    return apply


def _node(model: Any, rng: random.Random) -> None:
    nodes, names = model.graph.node, _names(model)
    node = rng.choice(nodes)
    how = rng.randrange(8)
    if how == 0:
        node.op_type = rng.choice(OPERATORS)
    elif how == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice((*names, "", "nowhere"))
    elif how == 2:
        node.input.append(rng.choice((*names, "")))
    elif how == 3 and node.input:
        node.input.pop()
    elif how == 4:
        node.output[0] = rng.choice((*names, "", "spare"))
    elif how == 5:
        nodes.remove(node)
    elif how == 6:
        nodes.insert(rng.randrange(len(nodes)), node)
    else:
        node.domain = rng.choice(("com.microsoft", "ai.onnx", "ai.onnx.ml", "evil"))


def _attribute(model: Any, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    if node.attribute and rng.random() < 0.7:
        attribute = rng.choice(node.attribute)
    else:
        names = ("axis", "axes", "to", "perm", "keepdims", "pads", "strides", "dilations", "group", "hidden_size")
        others = ("kernel_shape", "epsilon", "num_outputs", "equation", "body", "value", "mode", "layout", "batch_dims")
        attribute = node.attribute.add(name=rng.choice(names + others), type=AttributeProto.INT)
    how = rng.randrange(6)
    if how == 0:
        attribute.i = rng.choice(INTEGERS)
    elif how == 1:
        del attribute.ints[:]
        attribute.ints.extend(rng.choice(INTEGERS) for _ in range(rng.randrange(6)))
        attribute.type = AttributeProto.INTS
    elif how == 2:
        attribute.f = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
        attribute.type = rng.choice((attribute.type, AttributeProto.FLOAT))
    elif how == 3:
        attribute.s = rng.choice((b"", b"ij,jk->ik", b"...", b"reflect", b"\xff", b"reverse", b"i" * 200))
        attribute.type = rng.choice((attribute.type, AttributeProto.STRING))
    elif how == 4:
        attribute.g.CopyFrom(onnx.GraphProto.FromString(model.graph.SerializeToString()))
        attribute.type = AttributeProto.GRAPH
    else:
        attribute.type = rng.randrange(15)


def _constant(model: Any, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    how = rng.randrange(7)
    if how == 0:
        del tensor.dims[:]
        tensor.dims.extend(rng.choice((*INTEGERS, 1, 1, 2, 3)) for _ in range(rng.randrange(5)))
    elif how == 1:
        tensor.data_type = rng.randrange(26)
    elif how == 2 and tensor.data_type == TensorProto.INT64:
        count = max(1, len(tensor.raw_data) // 8)
        tensor.raw_data = struct.pack(f"<{count}q", *(rng.choice(INTEGERS) for _ in range(count)))
    elif how in (2, 3):
        tensor.raw_data = _spliced(tensor.raw_data, rng)
    elif how == 4:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=rng.choice(("/etc/passwd", "../x", "a", "/dev/zero")))
        tensor.external_data.add(key="length", value=str(len(tensor.raw_data)))
        if rng.random() < 0.5:
            tensor.ClearField("raw_data")
    elif how == 5:
        tensor.raw_data = struct.pack("<f", rng.choice((float("nan"), float("inf"), 1e38, -1e-38))) * (
            len(tensor.raw_data) // 4
        )
    else:
        tensor.name = rng.choice(_names(model))


def _interface(model: Any, rng: random.Random) -> None:
    """What is around the nodes."""
    graph = model.graph
    how = rng.randrange(9)
    port = rng.choice((*graph.input, *graph.output))
    if how == 0:
        dims = port.type.tensor_type.shape.dim
        rng.choice(dims).dim_value = rng.choice(INTEGERS)
    elif how == 1:
        port.type.tensor_type.elem_type = rng.randrange(26)
    elif how == 2:
        port.name = rng.choice((*_names(model), "state", "action"))
    elif how == 3:
        model.opset_import[0].version = rng.choice((*INTEGERS, 13, 17, 18, 19, 21, 22, 23, 24, 25))
    elif how == 4:
        model.opset_import.add(domain=rng.choice(("com.microsoft", "ai.onnx.ml", "")), version=1)
    elif how == 5:
        model.functions.add(name="Add", domain="", input=["a"], output=["b"])
    elif how == 6:
        model.metadata_props.add(key="ort_config", value='{"session": {}}')
    elif how == 7:
        model.ir_version = rng.choice(INTEGERS)
    else:
        graph.value_info.add(name=rng.choice(_names(model))).type.tensor_type.elem_type = rng.randrange(17)


def _bomb(model: Any, rng: random.Random) -> None:
    """Nodes that ask for time or memory without end."""
    graph, name = model.graph, f"bomb{rng.randrange(10**9)}"
    huge = rng.choice((2**20, 2**31, 2**40, 2**62))
    sizes = helper.make_tensor(f"{name}_sizes", TensorProto.INT64, (2,), [huge, rng.choice((1, 2**20))])
    depth = helper.make_tensor(f"{name}_depth", TensorProto.INT64, (1,), [huge])
    graph.initializer.extend([sizes, depth])
    source = rng.choice([i.name for i in graph.input])
    made = rng.choice(
        (
            [helper.make_node("ConstantOfShape", [sizes.name], [name])],
            [helper.make_node("Expand", [graph.initializer[0].name, sizes.name], [name])],
            [helper.make_node("Tile", [graph.initializer[0].name, depth.name], [name])],
            [helper.make_node("OneHot", [source, depth.name, sizes.name], [name])],
            [helper.make_node("Range", [depth.name, source, depth.name], [name])],
            [helper.make_node("Mod", [source, source], [name])],
            [helper.make_node("Div", [sizes.name, source], [name])],
            [helper.make_node("Pad", [source, sizes.name], [name])],
            [
                helper.make_node("Concat", [f"{name}_{i}" if i else source] * 9, [f"{name}_{i + 1}"], axis=-1)
                for i in range(20)
            ],
            [helper.make_node("Loop", [depth.name, "", source], [name], body=graph)],
        )
    )
    for position, node in enumerate(made):
        graph.node.insert(position, node)


def _names(model: Any) -> list[str]:
    graph = model.graph
    return [
        *(i.name for i in graph.input),
        *(i.name for i in graph.initializer),
        *(o for n in graph.node for o in n.output),
    ]


_BYTES = (_anywhere, _anywhere, _shortened, _header, _other_members)
_SPEC = (_spec_layout, _spec_metadata, _spec_value, _spec_value, _spec_value, _spec_text)
_WEIGHTS = (_weights_bytes, _weights_header)
_STEP = (
    _step_bytes,
    *(_of_model(change) for change in (_node, _node, _attribute, _attribute, _constant, _interface, _bomb)),
)
