"""Recipes: how a model is built and trained, apart from scale."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import choose, later, require


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained, apart from scale. The defaults are the authors' released TensorFlow
    code.

    Each field is one line of the ledger of differences between the paper's text and the codebases
    (docs/recipes.md).
    """

    name: str = "released_code"
    # attention block (paper, section 3; released code: values C/2, keys and values max-pooled 2x2, no biases,
    # no scale)
    key_divisor: int = 8  # query and key channels are C / key_divisor,
    key_channels_min: int = later(1)  # and at least so many
    value_divisor: int = 2  # value channels are C / value_divisor; a 1x1 convolution maps them back to C
    attention_pool: bool = True  # 2x2 max-pooling of keys and values
    attention_bias: bool = False
    attention_scale: bool = False  # multiply the logits by 1/sqrt(key channels)
    # the 1x1 convolution after the attended values; without it they have C channels
    attention_output: bool = later(True)
    attention_sn: bool = later(True)  # spectral norm in the block, where its network has it
    # spectral norm
    sn_generator: bool = True
    sn_discriminator: bool = True
    sn_cbn: bool = False  # also on the tables of the conditional batch norms
    sn_eps: float = 1e-12
    sn_iterations: int = 1  # power iterations an update: of G at each training pass, of D at each of d_passes
    # sigma's gradient flows through the power iteration; else its vectors are constants
    sn_through_iteration: bool = True
    # batch norm; PyTorch's momentum is 1 - TensorFlow's decay
    bn_momentum: float = 0.001
    last_bn_momentum: float = 0.0001
    bn_eps: float = 1e-5
    # images normalised together, on one device or several: 64 on each in the released code; None: all
    # of the batch
    bn_batch: int | None = later(64)
    init: str = "xavier_uniform"
    # gains of 1 and biases of 0; or "init": tables start as `init` says, a gain is 1 plus its entry
    cbn_init: str = later("constant")
    # loss and optimisation
    loss: str = "hinge"
    conditioning: str = "projection"
    # weight of the classification loss, used with conditioning "auxiliary_classifier" only
    auxiliary_weight_d: float = 1.0
    auxiliary_weight_g: float = 0.1  # as in the WGAN-GP authors' AC-GAN code; the paper states none
    lr_g: float = 1e-4
    lr_d: float = 4e-4
    beta1: float = 0.0
    beta2: float = 0.999  # the paper says 0.9; the released code leaves TensorFlow's default
    adam_eps: float = 1e-8
    d_steps: int = 1  # D updates for each G update
    # passes of D in its update: 1, real and generated images together; 2, real ones and then
    # generated ones
    d_passes: int = later(1)
    ema_decay: float | None = None  # of G's parameters, used for sampling; None: no average
    ema_start: int = 0  # G updates before averaging starts
    # average buffers too: batch norm's averages, and power-iteration vectors, from which evaluation iterates
    # as often as an update does
    ema_buffers: bool = later(False)
    flip: bool = False  # random horizontal flips of the real images
    # or "dcgan": the second codebase's pair, with attention in places of its own
    # (repro/networks/dcgan.py)
    network: str = later("resnet")
    gp_weight: float = later(10.0)  # weight of the gradient penalty, used with loss "wgan_gp" only
    # the penalty in an optimiser step of its own, not in the loss of the D update
    gp_own_step: bool = later(False)
    bn_momentum_fixed: bool = later(False)  # a preset's bn_momentum does not replace this recipe's
    # D's power iteration runs in G's updates too, as PyTorch's spectral norm does
    sn_d_in_g_step: bool = later(False)

    def __post_init__(self):
        for name in ("key_divisor", "key_channels_min", "value_divisor", "sn_iterations", "d_steps"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 1, f"recipe.{name}", value, "a whole number of at least 1"
            )
        for name in ("sn_eps", "bn_eps", "adam_eps", "lr_g", "lr_d", "gp_weight"):
            require(getattr(self, name) > 0, f"recipe.{name}", getattr(self, name), "positive")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"recipe.{name}", getattr(self, name), "in [0, 1)")
        for name in ("bn_momentum", "last_bn_momentum"):
            require(0 < getattr(self, name) <= 1, f"recipe.{name}", getattr(self, name), "in (0, 1]")
        require(
            self.bn_batch is None or (isinstance(self.bn_batch, int) and self.bn_batch >= 2),
            "recipe.bn_batch",
            self.bn_batch,
            "None or a whole number of at least 2",
        )
        require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            "recipe.ema_decay",
            self.ema_decay,
            "None or in (0, 1)",
        )
        require(self.d_passes in (1, 2), "recipe.d_passes", self.d_passes, "1 or 2")
        choose("recipe.init", self.init, ("xavier_uniform", "orthogonal", "framework_default"))
        choose("recipe.cbn_init", self.cbn_init, ("constant", "init"))
        choose("recipe.loss", self.loss, ("hinge", "wgan_gp"))
        choose(
            "recipe.conditioning", self.conditioning, ("projection", "auxiliary_classifier", "unconditional")
        )
        choose("recipe.network", self.network, ("resnet", "dcgan"))
        unconditional = self.conditioning == "unconditional"
        require(
            unconditional == (self.network == "dcgan"),
            "recipe.conditioning",
            self.conditioning,
            "unconditional with network dcgan, and only there",
        )
        require(
            self.attention_output or self.value_divisor == 1,
            "recipe.value_divisor",
            self.value_divisor,
            "1 without attention_output",
        )


# BigGAN-PyTorch's SAGAN script and mmgeneration's after it. Batch norm has PyTorch's own momentum and is not
# synchronised: 32 images a GPU (128 on four, 256 on eight). D iterates at every training pass.
_BIGGAN = dict(
    sn_eps=1e-8,
    sn_through_iteration=False,
    sn_d_in_g_step=True,
    bn_momentum=0.1,
    last_bn_momentum=0.1,
    bn_batch=32,
    cbn_init="init",
    ema_start=2000,
)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(),
        # where the paper's text says otherwise: values C/8, no pooling, Adam beta2 0.9
        Recipe(name="paper_text", value_divisor=8, attention_pool=False, beta2=0.9),
        # an update is two accumulated passes with a power iteration each: here one pass with two
        Recipe(name="biggan_pytorch", ema_decay=0.9999, ema_buffers=True, sn_iterations=2, **_BIGGAN),
        Recipe(
            name="studiogan",
            sn_eps=1e-6,
            sn_through_iteration=False,
            sn_cbn=True,
            cbn_init="init",
            d_passes=2,
            sn_d_in_g_step=True,
            bn_momentum=0.1,
            last_bn_momentum=0.1,
            bn_eps=1e-4,
            adam_eps=1e-6,
            init="orthogonal",
            flip=True,
        ),
        # mmgeneration's "BigGAN schedule", far ahead of the same repository's StudioGAN-style recipe
        Recipe(name="mmgeneration_biggan", ema_decay=0.999, d_passes=2, **_BIGGAN),
        # the second codebase (heykeetae/Self-Attention-GAN) as its defaults have it: WGAN-GP, the penalty in
        # a step of its own
        Recipe(
            name="heykeetae",
            network="dcgan",
            conditioning="unconditional",
            loss="wgan_gp",
            gp_own_step=True,
            d_passes=2,
            value_divisor=1,
            attention_pool=False,
            attention_bias=True,
            attention_output=False,
            attention_sn=False,
            sn_through_iteration=False,
            sn_d_in_g_step=True,
            bn_momentum=0.1,
            last_bn_momentum=0.1,
            beta2=0.9,
            init="framework_default",
        ),
    )
}
