"""What other programs call the layers that an adapter changes, and which of ours they keep as one.

Read by `interchange.py`. ComfyUI keeps the names of the published checkpoints, DiffSynth has its own for FLUX.1; both
take Qwen-Image's layers by diffusers' names. `{}` stands for the number of a block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from burnish.data.errors import ConfigError, Problem


@dataclass(frozen=True)
class Layer:
    """A linear layer elsewhere.

    Args:
        name: there.
        parts: diffusers' names of what it is made of, in the order of its outputs.
        swapped: the halves of its outputs stand the other way round (shift and scale of the last norm).
    """

    name: str
    parts: tuple[str, ...]
    swapped: bool = False

    def numbered(self, block: int) -> Layer:
        """The layer of one block."""
        return replace(self, name=self.name.format(block), parts=tuple(part.format(block) for part in self.parts))


def _layers(prefix: str, parent: str, names: dict[str, str]) -> tuple[Layer, ...]:
    """`names`: there -> here, several names with blanks between them."""
    return tuple(
        Layer(f"{prefix}{there}", tuple(f"{parent}{part}" for part in here.split())) for there, here in names.items()
    )


_DOUBLE, _SINGLE = "transformer_blocks.{}.", "single_transformer_blocks.{}."
_ATTENTION = {
    "img_attn.qkv": "attn.to_q attn.to_k attn.to_v",
    "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
}
_ENDS = {"img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out"}
_LAST_NORM = Layer("final_layer.adaLN_modulation.1", ("norm_out.linear",), swapped=True)

_FLUX = (
    *_layers(
        "double_blocks.{}.",
        _DOUBLE,
        _ATTENTION
        | {
            "img_mlp.0": "ff.net.0.proj",
            "img_mlp.2": "ff.net.2",
            "txt_mlp.0": "ff_context.net.0.proj",
            "txt_mlp.2": "ff_context.net.2",
            "img_mod.lin": "norm1.linear",
            "txt_mod.lin": "norm1_context.linear",
        },
    ),
    *_layers(
        "single_blocks.{}.",
        _SINGLE,
        {
            "linear1": "attn.to_q attn.to_k attn.to_v proj_mlp",
            "linear2": "proj_out",
            "modulation.lin": "norm.linear",
        },
    ),
    *_layers(
        "",
        "",
        _ENDS
        | {
            "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
            "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
            "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
            "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
            "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
            "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
        },
    ),
    _LAST_NORM,
)
_FLUX2 = (
    *_layers(
        "double_blocks.{}.",
        _DOUBLE,
        _ATTENTION
        | {
            "img_mlp.0": "ff.linear_in",
            "img_mlp.2": "ff.linear_out",
            "txt_mlp.0": "ff_context.linear_in",
            "txt_mlp.2": "ff_context.linear_out",
        },
    ),
    *_layers("single_blocks.{}.", _SINGLE, {"linear1": "attn.to_qkv_mlp_proj", "linear2": "attn.to_out"}),
    *_layers(
        "",
        "",
        _ENDS
        | {
            "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
            "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
            "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
            "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
            "single_stream_modulation.lin": "single_stream_modulation.linear",
            "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
            "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
        },
    ),
    _LAST_NORM,
)
_DIFFSYNTH = {
    "double_blocks.{}.img_attn.qkv": "blocks.{}.attn.a_to_qkv",
    "double_blocks.{}.txt_attn.qkv": "blocks.{}.attn.b_to_qkv",
    "double_blocks.{}.img_attn.proj": "blocks.{}.attn.a_to_out",
    "double_blocks.{}.txt_attn.proj": "blocks.{}.attn.b_to_out",
    "double_blocks.{}.img_mlp.0": "blocks.{}.ff_a.0",
    "double_blocks.{}.img_mlp.2": "blocks.{}.ff_a.2",
    "double_blocks.{}.txt_mlp.0": "blocks.{}.ff_b.0",
    "double_blocks.{}.txt_mlp.2": "blocks.{}.ff_b.2",
    "double_blocks.{}.img_mod.lin": "blocks.{}.norm1_a.linear",
    "double_blocks.{}.txt_mod.lin": "blocks.{}.norm1_b.linear",
    "single_blocks.{}.linear1": "single_blocks.{}.to_qkv_mlp",
    "single_blocks.{}.linear2": "single_blocks.{}.proj_out",
    "single_blocks.{}.modulation.lin": "single_blocks.{}.norm.linear",
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_embedder.timestep_embedder.0",
    "time_in.out_layer": "time_embedder.timestep_embedder.2",
    "guidance_in.in_layer": "guidance_embedder.timestep_embedder.0",
    "guidance_in.out_layer": "guidance_embedder.timestep_embedder.2",
    "vector_in.in_layer": "pooled_text_embedder.0",
    "vector_in.out_layer": "pooled_text_embedder.2",
    "final_layer.linear": "final_proj_out",
    "final_layer.adaLN_modulation.1": "final_norm_out.linear",
}

TABLES: dict[tuple[str, str], tuple[Layer, ...] | None] = {
    ("comfyui", "FluxTransformer2DModel"): _FLUX,
    ("comfyui", "Flux2Transformer2DModel"): _FLUX2,
    ("comfyui", "QwenImageTransformer2DModel"): None,
    ("diffsynth", "FluxTransformer2DModel"): tuple(replace(x, name=_DIFFSYNTH[x.name]) for x in _FLUX),
    ("diffsynth", "Flux2Transformer2DModel"): None,
    ("diffsynth", "QwenImageTransformer2DModel"): None,
}
"""(format, diffusers' class) -> layers there; None: they bear diffusers' names."""


def layers_of(style: str, model: str, here: set[str]) -> list[Layer]:
    """The layers elsewhere that hold ours.

    Args:
        style: "comfyui" or "diffsynth".
        model: diffusers' class.
        here: names of all linear layers of the model.

    Raises:
        ConfigError: the format is not known for this model.
    """
    if (style, model) not in TABLES:
        known = sorted({name for name, kind in TABLES if kind == model})
        raise ConfigError("no names for this model", [Problem("--format", style, ", ".join(known) or "diffusers")])
    table = TABLES[style, model]
    if table is None:
        return [Layer(name, (name,)) for name in sorted(here)]
    blocks = {int(word) for name in here for word in name.split(".") if word.isdigit()}
    found = [x.numbered(block) for x in table if "{}" in x.name for block in sorted(blocks)]
    found += [layer for layer in table if "{}" not in layer.name]
    return [layer for layer in found if here.issuperset(layer.parts)]
