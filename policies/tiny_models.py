"""Tiny pipelines of the real families: random weights in the layout that `from_pretrained` reads.

They let the loading, sampling and training code run without a download. They know nothing: the images they
make are noise. Called by `burnish data make-tiny-models` and by tests; weights are drawn by parameter name.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from burnish.policies.loading import without_progress_bars
from burnish.policies.tiny import draw_parameters

_TEXTS = (
    "Restore the marked region so that it matches the reference.",
    "Describe the key features of the input image, then refine the logo, text, face, texture and style in picture 1.",
    "a scene with the subject of reference image 1 in the style of reference image 2",
)
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QWEN_WORDS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
VOCABULARY = 400


def _tokenizer(*words: str, max_length: int = 512, **named: str) -> Any:
    """A byte-level BPE tokenizer trained on a few sentences; `words` are special tokens, `named` its attributes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner: Any = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", *words]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,  # pyright: ignore[reportCallIssue]
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    inner.train_from_iterator(_TEXTS, trainer)
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=max_length, extra_special_tokens=named, **tokens
    )


def _drawn(module: Any, seed: int) -> Any:
    """The module in eval mode with weights drawn by name."""
    draw_parameters(module, seed)
    return module.eval()


def _scheduler(**options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **options)


def tiny_kontext(seed: int = 0) -> Any:
    """A FluxKontextPipeline: tokens of 4 px, 16 channels."""
    import diffusers
    import transformers

    blocks: Any = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    ways: Any = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    quant: Any = {"use_quant_conv": False, "use_post_quant_conv": False}
    vae = diffusers.AutoencoderKL(latent_channels=4, shift_factor=0.1, scaling_factor=0.9, **blocks, **ways, **quant)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    text: Any = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends: Any = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    clip = transformers.CLIPTextModel(transformers.CLIPTextConfig(intermediate_size=64, **text, **ends))
    t5_shape: Any = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    t5 = transformers.T5EncoderModel(transformers.T5Config(vocab_size=VOCABULARY, pad_token_id=2, **t5_shape))
    return diffusers.FluxKontextPipeline(
        scheduler=_scheduler(shift=3.0),
        vae=_drawn(vae, seed),
        text_encoder=_drawn(clip, seed),
        tokenizer=_tokenizer(max_length=77),
        text_encoder_2=_drawn(t5, seed),
        tokenizer_2=_tokenizer(),
        transformer=_drawn(transformer, seed),
    )


def tiny_flux2(seed: int = 0) -> Any:
    """A Flux2KleinPipeline: tokens of 4 px, 16 channels; text layers 1, 2, 3."""
    import diffusers
    import transformers

    blocks: Any = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4}
    ways: Any = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = diffusers.AutoencoderKLFlux2(**blocks, **ways)
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=48,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    shape: Any = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "head_dim": 8}
    heads: Any = {"num_attention_heads": 2, "num_key_value_heads": 2}
    text = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=1, **shape, **heads)
    )
    tokenizer = _tokenizer(*_QWEN_WORDS[:2])
    tokenizer.chat_template = _CHAT
    return diffusers.Flux2KleinPipeline(
        scheduler=_scheduler(shift=3.0),
        vae=_drawn(vae, seed),
        text_encoder=_drawn(text, seed),
        tokenizer=tokenizer,
        transformer=_drawn(transformer, seed),
        is_distilled=False,
    )


def tiny_qwen_edit(seed: int = 0, *, zero_cond_t: bool = False) -> Any:
    """A QwenImageEditPlusPipeline: tokens of 8 px, 16 channels; `zero_cond_t` as in the 2511 release."""
    import diffusers

    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1, -0.1, 0.0, 0.2],
        latents_std=[1.0, 0.9, 1.1, 1.2],
    )
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
        zero_cond_t=zero_cond_t,
    )
    processor, text = _qwen_vl()
    stretch: Any = {"base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192, "shift_terminal": 0.02}
    return diffusers.QwenImageEditPlusPipeline(
        scheduler=_scheduler(shift=1.0, **stretch),
        vae=_drawn(vae, seed),
        text_encoder=_drawn(text, seed),
        tokenizer=processor.tokenizer,
        processor=processor,
        transformer=_drawn(transformer, seed),
    )


def _qwen_vl() -> tuple[Any, Any]:
    """(processor, model) of a tiny Qwen2.5-VL."""
    import transformers

    tokenizer = _tokenizer(*_QWEN_WORDS, max_length=2048, image_token="<|image_pad|>", video_token="<|video_pad|>")
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in _QWEN_WORDS}
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config={"depth": 2, "hidden_size": 16, "out_hidden_size": 16, "intermediate_size": 32, "num_heads": 2},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    processor = transformers.Qwen2VLProcessor(
        transformers.Qwen2VLImageProcessor(), tokenizer, transformers.Qwen2VLVideoProcessor()
    )
    return processor, transformers.Qwen2_5_VLForConditionalGeneration(config)


TINY_MODELS: dict[str, Callable[[], Any]] = {
    "kontext": tiny_kontext,
    "flux2": tiny_flux2,
    "qwen2509": tiny_qwen_edit,
    "qwen2511": lambda: tiny_qwen_edit(zero_cond_t=True),
}
"""Folder name -> pipeline with drawn weights."""


def make_tiny_models(parent: Path) -> list[Path]:
    """Write every tiny pipeline to `parent/<name>`; returns the folders, a few MB in all."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # saving asks for DeepSpeed, which would tell of its choice
    folders = []
    for name, make in TINY_MODELS.items():
        with without_progress_bars(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # transformers' words on odd sizes
            make().save_pretrained(parent / name, safe_serialization=True)
        folders.append(parent / name)
    return folders
