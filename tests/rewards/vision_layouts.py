"""Tiny vision models with keyed weights, saved in the public layouts; tests load them by `runpy`."""

import json

import torch

from burnish.data.seeding import normal

SIDE, PATCH, WIDTH, LAYERS, HEADS = 32, 8, 32, 2, 2
TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIDE, "layers": LAYERS, "width": WIDTH, "head_width": 16, "patch_size": PATCH},
    "text_cfg": TEXT,
}
SIGLIP = {
    "embed_dim": WIDTH,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": SIDE,
        "timm_model_name": "burnish_tiny_siglip",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}
SIGLIP_PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}


def fill(model, *key):
    """Give every parameter keyed values that let an image through: matrices by fan-in, scales near 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.from_numpy(normal(parameter.shape or (1,), 0, "vision-layout", *key, name))
            matrix = parameter.ndim > 1
            centre = 1.0 if not matrix and name.endswith(("weight", "lambda1")) else 0.0
            parameter.copy_((centre + noise * (parameter[0].numel() ** -0.5 if matrix else 0.1)).view(parameter.shape))
    return model.eval()


def save_siglip(path, **vision):
    """A SiglipModel with both towers, as the hub has them."""
    import transformers

    shape = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 64}
    text = {**shape, "hidden_size": 16, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "projection_size": 32}
    seen = {**shape, "image_size": SIDE, "patch_size": PATCH, **vision}
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=seen))
    return save_pretrained(
        model, transformers.SiglipImageProcessor(size=square(SIDE), resample=2, do_convert_rgb=None), path
    )


def save_dinov2(path):
    """A Dinov2Model: resized to a shortest edge, then cut out of the centre."""
    import transformers

    shape = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "mlp_ratio": 2}
    config = transformers.Dinov2Config(**shape, image_size=56, patch_size=14)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    size, crop = {"shortest_edge": 36}, square(28)
    processor = transformers.BitImageProcessor(size=size, crop_size=crop, image_mean=mean, image_std=std)
    return save_pretrained(transformers.Dinov2Model(config), processor, path)


def save_dinov3(path):
    """A DINOv3ViTModel with register tokens."""
    import transformers

    shape = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 64}
    config = transformers.DINOv3ViTConfig(**shape, image_size=SIDE, patch_size=PATCH, num_register_tokens=4)
    return save_pretrained(
        transformers.DINOv3ViTModel(config), transformers.DINOv3ViTImageProcessor(size=square(SIDE)), path
    )


def square(side):
    return {"height": side, "width": side}


def save_pretrained(model, processor, path):
    fill(model, type(model).__name__).save_pretrained(path)
    processor.save_pretrained(path)
    return path


def save_open_clip(path, config, *, preprocess=None):
    """A directory as `local-dir:` wants it; `preprocess` None leaves the pre-processing unsaid."""
    from safetensors.torch import save_file

    tree = {"model_cfg": config} | ({"preprocess_cfg": preprocess} if preprocess else {})
    path.mkdir(parents=True, exist_ok=True)
    (path / "open_clip_config.json").write_text(json.dumps(tree))
    save_file(open_clip_model(path).state_dict(), path / "open_clip_model.safetensors")
    return path


def save_single_file(path, name, config):
    """A torch file `<name>.pt` of an architecture that open_clip knows by that name from now on."""
    import open_clip

    path.mkdir(parents=True, exist_ok=True)
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.save(open_clip_model(path).state_dict(), path / f"{name}.pt")
    (path / "open_clip_config.json").unlink()
    (path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(path / f"{name}.json")
    return path / f"{name}.pt"


def open_clip_model(path):
    import open_clip

    register_siglip()
    return fill(open_clip.create_model(f"local-dir:{path}", load_weights=False), "open-clip")


def register_siglip():
    """Make timm know a SigLIP of this file's size."""
    import timm
    from timm.models import register_model
    from timm.models.vision_transformer import VisionTransformer

    def burnish_tiny_siglip(*, num_classes, global_pool, **_):
        shape = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": LAYERS, "num_heads": HEADS}
        return VisionTransformer(
            **shape, mlp_ratio=2, class_token=False, num_classes=num_classes, global_pool=global_pool
        )

    if not timm.is_model("burnish_tiny_siglip"):
        burnish_tiny_siglip.__module__ = VisionTransformer.__module__  # timm wants to find it in sys.modules
        register_model(burnish_tiny_siglip)


def save_as_open_clip(folder, path):
    """The directory of `save_siglip` in open_clip's layout; the text tower is another one."""
    from safetensors.torch import load_file, save_file
    from transformers import SiglipVisionModel

    state = to_timm(SiglipVisionModel.from_pretrained(folder).state_dict())
    file = save_open_clip(path, SIGLIP, preprocess=SIGLIP_PREPROCESS) / "open_clip_model.safetensors"
    whole = load_file(file)
    assert state.keys() == {name for name in whole if name.startswith("visual.")}
    save_file({**whole, **{name: tensor.contiguous() for name, tensor in state.items()}}, file)
    return path


def to_timm(state):
    """Weights of transformers' SiglipVisionModel under open_clip's names."""
    own = {"embeddings.patch_embedding": "patch_embed.proj", "post_layernorm": "norm"}
    block = {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj"}
    block |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    head = {"attention.out_proj": "proj", "layernorm": "norm", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    names = own | {f"head.{a}": f"attn_pool.{b}" for a, b in head.items()}
    names |= {f"encoder.layers.{i}.{a}": f"blocks.{i}.{b}" for i in range(LAYERS) for a, b in block.items()}
    found = {f"{b}.{end}": state[f"{a}.{end}"] for a, b in names.items() for end in ("weight", "bias")}
    found |= {"pos_embed": state["embeddings.position_embedding.weight"][None], "attn_pool.latent": state["head.probe"]}
    for end in ("weight", "bias"):
        for i in range(LAYERS):
            parts = [state[f"encoder.layers.{i}.self_attn.{part}_proj.{end}"] for part in "qkv"]
            found[f"blocks.{i}.attn.qkv.{end}"] = torch.cat(parts)
        query, keys = state[f"head.attention.in_proj_{end}"].split([WIDTH, 2 * WIDTH])
        found |= {f"attn_pool.q.{end}": query, f"attn_pool.kv.{end}": keys}
    return {f"visual.trunk.{name}": tensor for name, tensor in found.items()}


def pil(image):
    """The 8-bit RGB image that a user would have saved of float32 [3,H,W]."""
    from PIL import Image

    return Image.fromarray((image * 255 + 0.5).astype("uint8").transpose(1, 2, 0), "RGB")


def cosines(rows, goal):
    """float32 [B] cosines by torch of features [B,...] with features [...]."""
    return torch.nn.functional.cosine_similarity(rows.flatten(1), goal.flatten()[None]).numpy()
