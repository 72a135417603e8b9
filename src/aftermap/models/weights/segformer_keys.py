"""Weight names of SegFormer as it was published."""

from aftermap.models.configs.segformer import REDUCTIONS, SIZES, MitSize


def segformer_keys(size: MitSize = SIZES["mit_b0"]) -> dict[str, str]:
    """Names in the published checkpoints (`segformer.encoder.*`, `decode_head.*`), and what they are called here.

    In the original order, and the same for one date and for two. Source: Hugging Face transformers 4.20.1.
    """
    theirs, levels = "segformer.encoder", range(len(size.depths))
    modules: dict[str, str] = {}
    for i in levels:
        modules[f"{theirs}.patch_embeddings.{i}.proj"] = f"encoder.stages.{i}.patches"
        modules[f"{theirs}.patch_embeddings.{i}.layer_norm"] = f"encoder.stages.{i}.patch_norm"
    for i in levels:
        for j in range(size.depths[i]):
            for key, ours in _BLOCK.items():
                if REDUCTIONS[i] > 1 or not ours.startswith("attention.reduce"):
                    modules[f"{theirs}.block.{i}.{j}.{key}"] = f"encoder.stages.{i}.blocks.{j}.{ours}"
    modules |= {f"{theirs}.layer_norm.{i}": f"encoder.stages.{i}.norm" for i in levels}
    modules |= {f"decode_head.linear_c.{i}.proj": f"decoder.projections.{i}" for i in levels}
    keys = {f"{a}.{leaf}": f"{b}.{leaf}" for a, b in modules.items() for leaf in ("weight", "bias")}
    keys["decode_head.linear_fuse.weight"] = "decoder.fuse.weight"
    for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        keys[f"decode_head.batch_norm.{leaf}"] = f"decoder.norm.{leaf}"
    return keys | {f"decode_head.classifier.{leaf}": f"head.{leaf}" for leaf in ("weight", "bias")}


_BLOCK = {
    "layer_norm_1": "norm1",
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.self.sr": "attention.reduce",
    "attention.self.layer_norm": "attention.reduce_norm",
    "attention.output.dense": "attention.output",
    "layer_norm_2": "norm2",
    "mlp.dense1": "expand",
    "mlp.dwconv.dwconv": "depthwise",
    "mlp.dense2": "contract",
}
