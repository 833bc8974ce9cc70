"""Guidance and adapter arithmetic against worked examples."""

import torch

from burnish.policies.lora import AdapterConfig, add_adapter, trainable
from burnish.policies.qwen_edit import true_guidance


def layer(columns: int, rows: int) -> torch.nn.Module:
    """A diffusers model of one linear layer."""
    from diffusers.configuration_utils import ConfigMixin
    from diffusers.loaders import PeftAdapterMixin
    from diffusers.models import ModelMixin

    class Layer(ModelMixin, ConfigMixin, PeftAdapterMixin):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(columns, rows, bias=False)

    return Layer()


def test_true_guidance_keeps_the_norm_of_the_conditional_prediction(worked):
    inputs, expected = worked("cfg_norm_rescale")
    positive, negative = torch.tensor([[inputs["pos"]]]), torch.tensor([[inputs["neg"]]])
    result = true_guidance(positive, negative, inputs["scale"])
    torch.testing.assert_close(result[0, 0], torch.tensor(expected["rescaled"]), atol=1e-6, rtol=0)


def test_an_adapter_adds_its_scaled_product_and_trains_the_expected_number(worked):
    inputs, expected = worked("lora_delta")
    rank, (rows, columns) = inputs["rank"], (inputs["B_shape"][0], inputs["A_shape"][1])
    module = layer(columns, rows)
    before = module.inner.weight.detach().clone()
    add_adapter(
        module, AdapterConfig(rank=rank, alpha=float(inputs["alpha"]), target_modules=("inner",), num_modules=1)
    )
    down, up = (p for p in trainable(module).values())
    up.data.fill_(0.01)
    assert down.numel() + up.numel() == expected["trainable"]
    x = torch.ones(1, columns)
    torch.testing.assert_close(module.inner(x), x @ (before + expected["scaling"] * up @ down).T, atol=1e-5, rtol=0)
