"""Random weights saved as the public files of DreamSim, CSD and LPIPS are laid out; loaded with `runpy` by the tests.

The real loaders read them, so a user's download drops in. Draws come from `burnish.data.seeding` by parameter name.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from burnish.data.seeding import normal

TINY_CSD = "burnish-tiny-csd"


def fill(model):
    """Random parameters that keep a signal's size: matrices by their fan-in, scales around 1, the rest around 0."""
    for name, value in model.named_parameters():
        drawn = torch.from_numpy(normal(tuple(value.shape), 0, "test-weights", name))
        scale = 0.3 if value.ndim < 2 else float(np.prod(value.shape[1:])) ** -0.5
        value.data = drawn * scale + (1 if value.ndim < 2 and name.endswith("weight") else 0)
    return model.eval()


def pil(image):
    """8-bit image of float32 [3,H,W], written apart from the code under test."""
    return Image.fromarray((image.transpose(1, 2, 0).astype(np.float64) * 255 + 0.5).astype(np.uint8))


def tiny_vit(patch_size=16, **_):
    """DINO's transformer in the package's own code, 24 wide, 12 deep: the package hooks block 11 by number."""
    from dreamsim.feature_extraction.vision_transformer import VisionTransformer

    layers = {"embed_dim": 24, "depth": 12, "num_heads": 2, "mlp_ratio": 2, "qkv_bias": True}
    return VisionTransformer(patch_size=patch_size, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), **layers)


def base_vit(patch_size=16, **_):
    """The package's ViT-B as it is; `build_with` may have put another in its place."""
    from dreamsim.feature_extraction.vision_transformer import VisionTransformer

    layers = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4, "qkv_bias": True}
    return VisionTransformer(patch_size=patch_size, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), **layers)


def build_with(monkeypatch, builder):
    """Let the package build `builder`'s model wherever it would build a ViT-B; its loaders stay as they are."""
    for module in ("load_open_clip_as_dino", "load_clip_as_dino", "vision_transformer"):
        monkeypatch.setattr(f"dreamsim.feature_extraction.{module}.vit_base", builder)


HUBCONF = """
from dreamsim.feature_extraction import vision_transformer


def dinov2_vitb14(*, pretrained=True):
    assert not pretrained
    return vision_transformer.vit_base(patch_size=14)
"""


def write_dreamsim(directory, kind):
    """The files of one DreamSim type, with backbones of whatever size `vit_base` builds."""
    from dreamsim.config import dreamsim_args

    settings = dreamsim_args["model_config"][kind]
    for name in settings["model_type"].split(","):
        write_dino(directory, name) if "dino" in name else write_clip(directory, name)
    folder = directory / ("ensemble_lora" if kind == "ensemble" else f"{kind}_single_lora")
    write_adapter(folder, settings, directory)


def write_clip(directory, name):
    """`clip_vitb32` and the like: a DINO transformer that holds CLIP's weights, and the projection."""
    from dreamsim.feature_extraction import vision_transformer

    model = vision_transformer.vit_base(patch_size=int(name[-2:]))
    model.pos_drop = torch.nn.LayerNorm(model.embed_dim)
    state = fill(model).state_dict()
    state["proj"] = torch.from_numpy(normal((model.embed_dim, 512), 0, "test-weights", name)) / model.embed_dim**0.5
    torch.save({"state_dict": state}, directory / f"{name}_pretrain.pth.tar")


def write_dino(directory, name):
    """torch.hub's backbone, and for DINO the full checkpoint whose projection head the package reads."""
    from dreamsim.feature_extraction import vision_transformer

    (directory / "checkpoints").mkdir(exist_ok=True)
    model = fill(vision_transformer.vit_base(patch_size=int(name[-2:])))
    if name == "dinov2_vitb14":
        (directory / "facebookresearch_dinov2_main").mkdir()
        (directory / "facebookresearch_dinov2_main" / "hubconf.py").write_text(HUBCONF)
        torch.save(model.state_dict(), directory / "dinov2_vitb14_pretrain.pth")
        return
    torch.save(model.state_dict(), directory / "checkpoints" / "dino_vitbase16_pretrain.pth")
    keys = [f"mlp.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")] + ["last_layer.weight"]
    student = {f"module.head.{key}": torch.zeros(2, 2) for key in keys}
    torch.save({"student": student}, directory / "dino_vitb16_pretrain.pth")


def write_adapter(folder, settings, directory):
    """The LoRA of a type, saved by peft as DreamSim's authors did."""
    folder.mkdir()
    config = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "bias": "none", "target_modules": ["qkv"]}
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
    wanted = {}
    for i, name in enumerate(settings["model_type"].split(",")):
        dim = width(directory, name)
        for block in range(12):
            stem = f"base_model.model.extractor_list.{i}.model.blocks.{block}.attn.qkv"
            for part, shape in (("lora_A", (4, dim)), ("lora_B", (3 * dim, 4))):
                wanted[f"{stem}.{part}.weight"] = torch.from_numpy(normal(shape, 0, "lora", stem, part)) * 0.1
    from safetensors.torch import save_file

    save_file(wanted, folder / "adapter_model.safetensors")


def width(directory, name):
    """Width of a written backbone."""
    from dreamsim.feature_extraction import vision_transformer

    return vision_transformer.vit_base(patch_size=int(name[-2:])).embed_dim


def register_tiny_csd(folder):
    """Teach open_clip a tower of 32 pixels and 16 channels under `TINY_CSD`."""
    import open_clip

    vision = {"image_size": 32, "layers": 2, "width": 16, "patch_size": 8, "head_width": 8}
    text = {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 1, "layers": 1}
    config = {"embed_dim": 8, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (folder / f"{TINY_CSD}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def csd_model(model):
    """open_clip's tower with CSD's heads as plain tensors, filled: (tower without projection, style, content)."""
    import open_clip

    tower = fill(open_clip.create_model(model).visual)
    features, dim = tower.proj.shape
    tower.proj = None
    heads = [torch.from_numpy(normal((features, dim), 0, "csd", part)) / features**0.5 for part in ("style", "content")]
    return tower, *heads


def write_csd(path, tower, style, content):
    """The public checkpoint: `model_state_dict`, every key behind `module.`, and training's leftovers."""
    state = {f"module.backbone.{key}": value for key, value in tower.state_dict().items()}
    state |= {"module.last_layer_style": style, "module.last_layer_content": content}
    torch.save({"model_state_dict": state, "epoch": 1}, path)


def trunk_file(net):
    """Name of torchvision's file of a trunk."""
    return {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}[net]


def write_trunk(directory, net):
    """torchvision's state dict of a trunk, its classifier cut short; returns what features it holds."""
    from torchvision import models

    with torch.device("meta"):
        model = {"alex": models.alexnet, "vgg": models.vgg16}[net](weights=None)
    state = fill(model.features.to_empty(device="cpu")).state_dict()
    names = {f"features.{key}": value for key, value in state.items()}
    torch.save({**names, "classifier.6.bias": torch.zeros(1000)}, Path(directory) / trunk_file(net))
    return state
