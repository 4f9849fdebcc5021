"""Numbers of the four papers' results tables, as printed. `make_recipes.py` puts them into the recipes.

Values stand as in the tables: distances in their unit, per cents as per cents. None is a failure (a dash or "fail").
"""

from __future__ import annotations

# ---------------------------------------------------------------- Murugesan et al. 2020, table 1: row, Dice, Hausdorff

PROMISE12 = {
    "ce": ("U-Net, CE", 0.7964, 9.11),
    "weighted-ce": ("U-Net, WCE", 0.8374, 7.82),
    "dice": ("U-Net, Dice", 0.8166, 8.25),
    "focal": ("U-Net, focal", 0.8269, 8.00),
    "context-static": ("U-Net, context StROI", 0.861, 6.91),
    "context-dynamic": ("U-Net, context DyROI", 0.861, 7.30),
    "gan": ("GAN", 0.7877, 8.76),
    "seg-glgan-static": ("Seg-GLGAN StROI", 0.8019, 8.40),
    "seg-glgan-dynamic": ("Seg-GLGAN DyROI", 0.86, 7.01),
    # of the supplement
    "seg-glgan-static-context": ("Seg-GLGAN StROI with context loss", 0.8158, 7.93),
}
ACDC = {
    "ce": ("U-Net, CE", 0.822, 5.69),
    "weighted-ce": ("U-Net, WCE", 0.8385, 5.31),
    "dice": ("U-Net, Dice", None, None),
    "focal": ("U-Net, focal", 0.8245, 5.48),
    "context-static": ("U-Net, context StROI", 0.85, 4.55),
    "context-dynamic": ("U-Net, context DyROI", 0.8402, 5.30),
    "gan": ("GAN", 0.833, 4.70),
    "seg-glgan-static": ("Seg-GLGAN StROI", 0.835, 4.69),
    "seg-glgan-dynamic": ("Seg-GLGAN DyROI", 0.856, 4.38),
}

# ---------------------------------------------------------------- Rezaei et al. 2018: kind (None: cited), row, values
# Table 1: Dice and Hausdorff of WT, ET, TC

BRATS17 = {
    "recurrent-refine": ("recurrent-refine", "RNN-cGAN + Refine", (0.86, 0.64, 0.73), (7.22, 8.30, 11.04)),
    "cgan": ("cgan", "cGAN", (0.74, 0.53, 0.61), (12.6, 16.41, 31.0)),
    "recurrent": ("recurrent", "recurrent-cGAN", (0.79, 0.60, 0.68), (11.73, 14.54, 25.83)),
    "residual-enc": (None, "Residual-Enc", (0.82, 0.62, 0.57), ()),
    "fcn": (None, "FCN", (0.83, 0.69, 0.69), (11.06, 11.49, 12.53)),
    "3d-unet": (None, "3D-Unet", (0.81, 0.76, 0.72), (13.65, 22.36, 13.88)),
    "masked-vnet": (None, "Masked-Vnet", (0.86, 0.71, 0.63), (5.43, 8.34, 11.17)),
    "3d-seg-net": (None, "3D-Seg-Net", (0.79, 0.60, 0.64), (23.33, 21.09, 26.01)),
    "nifty-net": (None, "Nifty-Net", (0.83, 0.71, 0.68), (27.49, 17.35, 31.34)),
    "3d-cnn": (None, "3D-CNN", (0.82, 0.46, 0.56), (9.56, 13.8, 14.7)),
    "biomedia": (None, "biomedia", (0.90, 0.73, 0.79), (4.2, 4.5, 6.5)),
    "ucl-tig": (None, "UCL-TIG", (0.90, 0.78, 0.83), (3.8, 3.2, 6.4)),
    "mic-dkfz": (None, "MIC-DKFZ", (0.89, 0.73, 0.79), (6.9, 4.5, 9.4)),
}
# Table 2: FNR and FPR of WT, ET, TC
BRATS17_RATES = {
    "recurrent-refine": ("recurrent-refine", "RNN-cGAN + Refine", (0.11, 0.16, 0.29), (0.02, 0.02, 0.02)),
    "cgan": ("cgan", "cGAN", (0.22, 0.34, 0.32), (0.02, 0.04, 0.03)),
    "recurrent": ("recurrent", "recurrent-cGAN", (0.19, 0.32, 0.30), (0.02, 0.03, 0.02)),
    "biomedia": (None, "biomedia", (0.11, 0.22, 0.24), ()),
    "ucl-tig": (None, "UCL-TIG", (0.09, 0.23, 0.18), ()),
    "mic-dkfz": (None, "MIC-DKFZ", (0.11, 0.21, 0.22), ()),
}
# Table 3: WT, ET, TC
BRATS17_T3 = {
    "validation": (
        "validation set",
        {
            "dice": (0.86, 0.64, 0.73),
            "recall": (0.89, 0.84, 0.71),
            "specificity": (0.98, 0.98, 0.97),
            "hausdorff": (7.22, 8.30, 11.04),
        },
    ),
    "test": ("test set", {"dice": (0.85, 0.61, 0.72), "hausdorff": (8.73, 59.2, 25.9)}),
}
# Table 4: Dice and ASD of liver and lesion
LITS = {
    "cgan-refine": ("cgan-refine", "cGAN + Refine", (0.94, 0.83), (1.4, 1.6)),
    "cgan": ("cgan", "cGAN", (0.85, 0.81), (1.8, 2.1)),
    "unet": (None, "UNet", (0.72, 0.70), (19.04, 19.04)),
    "resnet-fusion": (None, "ResNet + Fusion", (0.95, 0.50), (0.84, 13.33)),
    "super-ai": (None, "SuperAI", (0.96, 0.81), (None, 1.1)),
    "h-dense-unet": (None, "H-Dense + UNet", (0.96, 0.82), (1.45, 1.1)),
    "couple-fcn": (None, "coupleFCN", (0.78, 0.77), ()),
}
# Table 5: VOE, RVD, ASD, MSD
LITS_ERRORS = {
    "cgan-refine": ("cgan-refine", "cGAN + Refine", 14, -6, 6.4, 40.1),
    "cgan": ("cgan", "cGAN", 21, -1, 10.8, 87.1),
    "resnet-fusion": (None, "ResNet + Fusion", 16, -6, 5.3, 48.3),
    "super-ai": (None, "SuperAI", 36, 4.27, 1.1, 6.2),
    "h-dense-unet": (None, "H-Dense + UNet", 39, 7.8, 1.1, 7.0),
    "couple-fcn": (None, "coupleFCN", 35, 12, 1.0, 7.0),
}
# Tables 6 and 7: SEG, specificity, sensitivity; in 7 also FPR and FNR
PHC_HELA = {
    "cr-gan": ("cgan-refine", "MISS-GAN (CR-GAN)", (0.951, 0.943, 0.94)),
    "cgan": ("cgan", "cGAN", (0.928, 0.910, 0.91)),
    "unet": (None, "U-Net", (0.92,)),
    "kth-se": (None, "KTH-SE", (0.79,)),
    "mser": (None, "MSER", (0.77,)),
    "greedy": (None, "Greedy", (0.87,)),
}
MDA231 = {
    "cgan-refine": ("cgan-refine", "cGAN + Refine", (0.93, 0.93, 0.92, 0.07, 0.08)),
    "rnn-gan": ("recurrent", "RNN-GAN", (0.91, 0.90, 0.91, 0.10, 0.09)),
    "cgan": ("cgan", "cGAN", (0.90, 0.89, 0.91, 0.11, 0.09)),
    "unet": (None, "UNet", (0.92,)),
    "kth": (None, "KTH", (0.79,)),
    "mser": (None, "MSER", (0.75,)),
    "greedy": (None, "Greedy", (0.85,)),
}

# ---------------------------------------------------------------- Hosseini and Soleymani Baghshah 2024
# Table 1: mDice, mIoU, mPrecision, mRecall

POLYP = {
    "ce": (86.41, 79.34, 88.90, 87.59),
    "balanced-ce": (84.31, 75.99, 81.75, 91.95),
    "dice-ce": (87.06, 80.00, 88.97, 88.92),
    "dbce": (87.38, 80.29, 88.81, 89.45),
}
# Table 3: mDice, mIoU, Dice of the organs in the order of the table
SYNAPSE = {
    "ce": (81.10, 72.30, (90.50, 60.65, 83.77, 81.23, 95.38, 64.94, 91.71, 80.66)),
    "balanced-ce": (65.03, 51.81, (60.89, 38.25, 70.09, 68.16, 89.67, 42.74, 81.73, 68.71)),
    "dice-ce": (81.75, 72.74, (91.79, 60.48, 85.54, 83.67, 95.49, 68.08, 89.79, 79.19)),
    "dbce": (81.68, 72.81, (90.84, 59.82, 86.63, 83.28, 95.47, 66.54, 91.12, 79.70)),
}

# ---------------------------------------------------------------- Huang and Sui 2024: Dice
# AMOS, organs in the order of their values

ORGANS = (
    "spleen", "kidney_R", "kidney_L", "gallbladder", "oesophagus", "liver", "stomach", "aorta", "postcava", "pancreas",
    "adrenal_R", "adrenal_L", "duodenum", "bladder", "prostate_uterus",
)  # fmt: skip


def columns(averages: str, *rows: str) -> list[tuple[float | None, tuple[float | None, ...]]]:
    """For each column its average and its rows; a dash is a failure."""
    table = [[None if cell == "-" else float(cell) for cell in row.split()] for row in rows]
    return [
        (float(average), tuple(column))
        for average, column in zip(averages.split(), zip(*table, strict=True), strict=True)
    ]


AMOS_T1 = dict(
    zip(
        ("gdl", "dwce", "cedl", "cwcd"),
        columns(
            ".7046 .6989 .7103 .7497",
            ".8965 .8351 .8831 .9016",
            ".9241 .8661 .8961 .9242",
            ".9112 .8847 .8875 .9151",
            ".5527 .6153 .6416 .6444",
            ".4794 .6634 .5170 .6462",
            ".9479 .8995 .9420 .9393",
            ".7451 .6821 .7715 .8117",
            ".9023 .8926 .9051 .9124",
            ".8306 .8034 .8288 .8368",
            ".6246 .6152 .5974 .6789",
            ".5395 .6087 .4397 .6116",
            ".3619 .6208 .3549 .4869",
            ".6156 .5911 .5942 .6408",
            ".6879 .6381 .7120 .6810",
            ".5501 .2671 .6842 .6149",
        ),
        strict=True,
    )
)
BRATS21_T1 = dict(
    zip(
        ("gdl", "dwce", "cedl", "cwcd"),
        columns(
            ".8070 .7970 .7909 .8099",
            ".8064 .8256 .8411 .8493",
            ".8292 .8081 .7868 .8182",
            ".7855 .7572 .7447 .7622",
        ),
        strict=True,
    )
)
#: Columns of table 2.
PAIRS = tuple(
    (network, loss) for network in ("unet", "deeplabv3", "unetr", "vnet") for loss in ("cedl", "cwcd")
)
AMOS_T2 = dict(
    zip(
        PAIRS,
        columns(
            ".7103 .7479 .7861 .8145 .6116 .6344 .5267 .6723",
            ".8831 .9023 .9330 .9425 .8575 .8710 .3958 .8218",
            ".8961 .9229 .9241 .9357 .8931 .8963 .7108 .8608",
            ".8875 .9198 .9399 .9382 .8926 .9036 .3897 .8701",
            ".6416 .6248 .7134 .7324 .5176 .5253 .3241 .549",
            ".5170 .6290 .6386 .7434 .3986 .5467 .1784 .5071",
            ".9420 .9380 .9678 .9686 .9443 .9434 .9051 .9184",
            ".7715 .8112 .9018 .8909 .6276 .5912 .8071 .8275",
            ".9051 .9140 .9341 .9262 .8434 .8620 .7934 .8433",
            ".8288 .8374 .8658 .8680 .7372 .7703 .1752 .6854",
            ".5974 .6814 .6628 .7458 .5072 .5656 .6558 .6712",
            ".4397 .6067 .5230 .5817 .002 .5087 - .4747",
            ".3549 .4844 .4661 .5818 - .3276 - .3204",
            ".5942 .6372 .7326 .7562 .4233 .4830 .5881 .4977",
            ".7120 .6844 .8215 .8247 .5939 .5621 .6279 .668",
            ".6842 .6255 .7674 .7810 .3235 .1591 .2953 .5684",
        ),
        strict=True,
    )
)
BRATS21_T2 = dict(
    zip(
        PAIRS,
        columns(
            ".7909 .8099 .8130 .8184 .7272 .7450 .6758 .7336",
            ".8411 .8493 .8471 .8604 .7781 .7986 .7416 .8035",
            ".7868 .8182 .8273 .8295 .7093 .7200 .6428 .7111",
            ".7447 .7622 .7645 .7654 .6943 .7163 .6431 .6862",
        ),
        strict=True,
    )
)
AMOS_T3 = dict(
    zip(
        ("ce", "cwce", "dl", "sdl", "cwcd"),
        columns(
            ".6912 .7347 .3156 .8529 .7479",
            ".8679 .9069 - - .9023",
            ".9193 .9321 - .8988 .9229",
            ".8852 .9029 - .9151 .9198",
            ".5722 .6577 - - .6248",
            ".4976 .6063 - - .6290",
            ".9350 .9464 .0936 .9399 .9380",
            ".8194 .8021 - .7956 .8112",
            ".9035 .9134 - .8850 .9140",
            ".8263 .8146 - .8283 .8374",
            ".6491 .6836 - - .6814",
            ".5083 .5678 .5376 - .6067",
            ".3566 .5611 - - .4844",
            ".6021 .6583 - - .6372",
            ".6161 .6236 - .7073 .6844",
            ".4097 .4435 - - .6255",
        ),
        strict=True,
    )
)
BRATS21_T3 = dict(
    zip(
        ("ce", "cwce", "dl", "sdl", "cwcd"),
        columns(
            ".7716 .7853 .7097 .7358 .8099",
            ".8187 .8435 .7615 .7954 .8493",
            ".7633 .7823 .6417 .6649 .8182",
            ".7327 .7301 .7259 .7470 .7622",
        ),
        strict=True,
    )
)
