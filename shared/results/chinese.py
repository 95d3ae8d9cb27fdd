"""The Chinese of the tables: each English phrase of the code with its translation, and the parts of the settings."""

from __future__ import annotations

from typing import Dict, Tuple

_Pairs = Tuple[Tuple[str, str], ...]
_NOTES: _Pairs = (  # below the tables
    (
        "In the document: the error. Read from the paper and the original's program: this is another network. The "
        "paper's SE-ResNet-110 has 54 basic blocks with one gate each (1.74 M parameters), the port's has "
        "bottlenecks with a gate after every convolution (3,504,422 parameters).",
        "文档给出的是错误率。对照论文和原版程序可知，二者不是同一个网络：论文的 SE-ResNet-110 由 54 个 basic block "
        "组成，每个 block 一个 SE 模块（1.74 M 参数）；原版程序采用 bottleneck，每个卷积之后都有一个 SE 模块（"
        "3,504,422 参数）。",
    ),
    (
        "In the document: the error (top-1 is 100 minus it), ms/step, batch size and epochs. Read from a later "
        "state of the original's program, not from its document: the test images are normalised with the test set's "
        "own statistics; a step's ms are of one single step and include a second forward pass.",
        "文档给出的是错误率（Top-1 为 100 减去该值）、毫秒/步、批大小和轮数。以下内容出自较新版本的原版程序，而非原"
        "版文档：测试图像用测试集自身的均值和标准差做归一化；每步耗时只取自单独一步，且包含第二次前向计算。",
    ),
    (
        "Read from a later state of the original's program, not from its document: its GPU script has 64 images x "
        "782 steps x 90 epochs, with the rate lowered at epochs 50 and 70; whether this or what the document says "
        "was measured is not stated.",
        "以下内容出自较新版本的原版程序，而非原版文档：GPU 脚本为 64 张图像 x 782 步 x 90 轮，学习率在第 50 轮和第"
        " 70 轮下降；文档结果按脚本还是按文档的设置测得，未作说明。",
    ),
    (
        "In the document: about 8 hours, device not stated; 160 x 391 steps of 91 ms account for 1.6 of them.",
        "文档称约 8 小时，未注明设备；按每步 91 毫秒计算，160 x 391 步只需其中的 1.6 小时。",
    ),
    (
        "In the document: that label smoothing is required, and a loss scale of 128. Read from a later state of the "
        "original's program, not from its document: the batch size, and that an accuracy is of one device's share, "
        "6,250 of the 50,000 validation images, because the ranks are never added up. As that program ran: "
        "senet154_cosine_as_run, senet154_step_as_run.",
        "文档要求使用标签平滑，loss scale 为 128。以下内容出自较新版本的原版程序，而非原版文档：批大小；精度只统计了"
        "单个设备分到的图像，即 50,000 张验证图像中的 6,250 张，因为各 rank 的结果从未汇总。按该程序实际行为训练的配"
        "置：senet154_cosine_as_run、senet154_step_as_run。",
    ),
    (
        "Read from a later state of the original's program, not from its document: it cannot run a step schedule, "
        "because period and factor are swapped.",
        "以下内容出自较新版本的原版程序，而非原版文档：该程序无法按阶梯衰减学习率，因为衰减周期和衰减系数写反了。",
    ),
    (
        "A later edition of the document has one row only: cosine, 80.564 / 94.428 at 1022.920 images/s.",
        "较新版本的文档只有一行结果：cosine，80.564 / 94.428，1022.920 图像/秒。",
    ),
    (
        "The document lists the row of a competitor's device and leaves its numbers blank.",
        "文档列出了竞品设备这一行，但未填数值。",
    ),
    (
        "Read from a later state of the original's program, not from its document: the batch size, the schedule, "
        "and that an accuracy is of 49,664 of the 50,000 validation images, because the last 80 are dropped and the "
        "meters skip the first two batches.",
        "以下内容出自较新版本的原版程序，而非原版文档：批大小；学习率策略；精度只统计了 50,000 张验证图像中的"
        " 49,664 张，因为最后 80 张被丢弃，且统计跳过了前两个批次。",
    ),
    (
        "An older edition of the document gives 319.265 (1 NPU) and 4126.888 images/s (8 NPU).",
        "较早版本的文档给出 319.265（1 NPU）和 4126.888 图像/秒（8 NPU）。",
    ),
    (
        "Expected by the recipe, from what others have published (its text has the sources); nobody has measured it.",
        "该配置的预期值，依据他人已发表的结果推算（出处见该配置的说明）；尚无人实测。",
    ),
    (
        "In the document: one epoch of 1,000 steps. It is a throughput, not an accuracy.",
        "文档中为一轮 1,000 步，给出的是吞吐量，不是精度。",
    ),
    (
        "In the document: the rate of 0.4 (0.32 on a GPU) and no zero padding. Read from a later state of the "
        "original's program, not from its document: the batch size, the cosine, that an accuracy is of 49,920 of "
        "the 50,000 validation images, because the last 80 are dropped, that inputs are not normalised, and that "
        "label smoothing and drop-path have no effect. As that program ran: pnasnet5large_8p_as_run.",
        "文档给出学习率 0.4（GPU 上为 0.32），不做零填充。以下内容出自较新版本的原版程序，而非原版文档：批大小；余弦"
        "退火；精度只统计了 50,000 张验证图像中的 49,920 张，因为最后 80 张被丢弃；输入未做归一化；标签平滑和"
        " drop-path 均未生效。按该程序实际行为训练的配置：pnasnet5large_8p_as_run。",
    ),
)
_TABLES: _Pairs = (
    ("row", "来源"),
    ("settings", "设置"),
    ("hardware", "硬件"),
    ("prec.", "精度模式"),
    ("precision", "精度模式"),
    ("batch", "批大小"),
    ("epochs", "轮数"),
    ("top-1", "Top-1"),
    ("top-1 (%)", "Top-1 (%)"),
    ("top-5", "Top-5"),
    ("top-5 (%)", "Top-5 (%)"),
    ("images/s", "图像/秒"),
    ("ms/step", "毫秒/步"),
    ("hours", "小时"),
    ("tested", "评估图像"),
    ("images evaluated", "评估图像数"),
    ("documented", "文档值"),
    ("measured", "实测"),
    ("expected", "预期"),
    ("not measured", "未测"),
    ("{steps} st.", "{steps} 步"),
    (" (error {percent})", " (错误率 {percent})"),
    ("Documented in: {sources}", "文档出处：{sources}"),
    ("   (documented in: {sources})", "（文档出处：{sources}）"),
    (
        "Batch: over all devices. top-1, top-5: percent, from as many images as `tested` says. st.: steps.",
        "批大小：所有设备合计。Top-1、Top-5：百分比，按“评估图像”一列的图像数统计。",
    ),
    ("mixed", "混合精度"),
)
_MODES: _Pairs = (  # of runs
    ("train", "训练"),
    ("finetune", "微调"),
    ("evaluate", "评估"),
    ("benchmark", "性能测试"),
    ("profile", "性能分析"),
    ("check-port", "精度比对"),
)
PHRASES: Dict[str, str] = dict([*_NOTES, *_TABLES, *_MODES])
# In this order: `cosine from` before the rates from an epoch on, the separators last.
SETTINGS: Tuple[Tuple[str, str], ...] = (
    (r"cosine from (\S+) to ([^\s,]+)", r"余弦退火（\1 降至 \2）"),
    (r"cosine from ([^\s,]+)", r"余弦退火（初始 \1）"),
    (r"(?:then )?(?<![\w.])(\d[\d.]*(?:e-?\d+)?) from (?:epoch )?(\d+)(?=,|$)", r"第 \2 轮起 \1"),
    (r"(\d+) warm-up epochs|(\d+) epochs warm-up", r"预热 \1\2 轮"),
    (r"(?<=, )changed every step(?=,|$)", "逐步调整"),
    (r"(?<=, )depth (\d+)", r"深度 \1"),
    (r"(?<=, )(\d+) px", r"\1 像素"),
    (r"(?<=, )(\d+) seeds$", r"\1 个随机种子"),
    (r"(?<=, )(\d+) runs$", r"\1 次运行"),
    (r"(?<=, )compiled(?=,| \(|$)", "图编译"),
    (r"(?<=, )answers restricted to the data set's classes(?=,|$)", "预测限于数据集的类别"),
    (r"(?<=, )images squeezed(?=,|$)", "图像压缩为正方形"),
    (r"(?<=, )begun on other hardware or threads(?=,|$)", "始于其他硬件或线程数"),
    *((rf"(?<=, ){mode}(?=,|$)", name) for mode, name in _MODES),
    (r": ", "："),
    (r", ", "，"),
)
HARDWARE: Tuple[Tuple[str, str], ...] = (
    (r"^paper$", "论文"),
    (r"competitor V", "竞品V"),
    (r", (\d+) cores?$", r"，\1 核"),
    (r" with (\w+)(?=，)", r"，\1"),
)
