"""Published weights of the learned metrics: where to download them, and their paths in a folder of weights."""

from __future__ import annotations

from helix4d.evaluation.learned.weights import WeightFile, hub_file, linked_file

_DREAMSIM_ZIP = (
    "https://github.com/ssundaram21/dreamsim/releases/download/v0.2.0-checkpoints/dreamsim_ensemble_checkpoint.zip"
)
_UNZIP = (
    f"curl -fL --create-dirs -o {{weights}}/dreamsim/ensemble.zip {_DREAMSIM_ZIP} "
    "&& unzip -n {weights}/dreamsim/ensemble.zip -d {weights}/dreamsim"
)

BIG_G_FILE = hub_file("clip-bigg", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "open_clip_pytorch_model.bin")
EVA_FILE = hub_file(
    "eva02-e-plus", "timm/eva02_enormous_patch14_plus_clip_224.laion2b_s9b_b144k", "open_clip_pytorch_model.bin"
)
ULIP_FILE = hub_file(
    "ulip",
    "SFXX/ulip",
    "ULIP-2/pretrained_models/ULIP-2-PointBERT-10k-xyzrgb-pc-vit_g-objaverse_shapenet-pretrained.pt",
    kind="dataset",
)
UNI3D_FILE = hub_file("uni3d", "BAAI/Uni3D", "modelzoo/uni3d-g/model.pt")
VIDEOGPT_FILE = hub_file(
    "i3d",
    "LanguageBind/Open-Sora-Plan-v1.0.0",
    "opensora/eval/fvd/videogpt/i3d_pretrained_400.pt",
    kind="space",
    revision="810fa8c4bdb3a4c8eec9bd57375c29bde6fb46de",
)
STYLEGAN_V_FILE = linked_file(
    "i3d/i3d_torchscript.pt", "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1"
)
ALEX_FILE = linked_file(
    "lpips/alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
)
VGG_FILE = linked_file("lpips/vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth")
_LPIPS = "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1"
ALEX_LPIPS_FILE = linked_file("lpips/alex.pth", f"{_LPIPS}/alex.pth")
VGG_LPIPS_FILE = linked_file("lpips/vgg.pth", f"{_LPIPS}/vgg.pth")
DINO_FILE = linked_file(
    "dreamsim/dino_vitbase16_pretrain.pth",
    "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
)
DREAMSIM_CLIP_FILE = WeightFile("dreamsim/clip_vitb16_pretrain.pth.tar", _UNZIP)
DREAMSIM_OPEN_CLIP_FILE = WeightFile("dreamsim/open_clip_vitb16_pretrain.pth.tar", _UNZIP)
DREAMSIM_ADAPTER_FILE = WeightFile("dreamsim/ensemble_lora/adapter_model.safetensors", _UNZIP)
