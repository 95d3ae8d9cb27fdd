"""The page in Chinese: no word of English that is no name, the same numbers, and the language named to the reader."""

from __future__ import annotations

import re

import pytest

from shared.port_check.report import conclusion
from shared.results.__main__ import find_records, main
from shared.results.language import ENGLISH, LANGUAGES
from shared.results.page.document import page
from shared.results.page.port_section import _verdict
from tests.shared.results.test_page import checked, made_up
from tests.shared.results.test_port_section import comparison, port_run

pytestmark = pytest.mark.once
# Names, values of options, units and files, which stand in a Chinese text too.
NAMES = """
    SE ResNet SENet PNASNet Large CIFAR ImageNet PyTorch Tensorflow NPU GPU CPU CSV EPYC AMD Ascend Top nats json events
    config port loss scale bottleneck basic block rank cosine drop path torch floor cos pi script alert img src http
    example org html lang zh se pnas kit Small python run sample abc ffee three one lost fault layer conv bn relu fc
    output float cpu PnasNet for jsonl
""".split()


def _words(text):
    """The English words of a page outside of code and of what is between angle brackets."""
    text = re.sub(r"<(pre|code|style)\b.*?</\1>|<[^>]*>|&\w+;", " ", text[text.index("<body>") :], flags=re.DOTALL)
    recipes = r"\b(se_resnet|senet|pnasnet|imagenet)\w+"
    return set(re.findall(r"[A-Za-z]{2,}", re.sub(recipes, " ", text))) - set(NAMES)


@pytest.fixture
def runs(tmp_path):
    """One with everything; one whose files are damaged; one of check-port that differs, of two sides."""
    whole = made_up(tmp_path, mode="finetune")
    lost = made_up(tmp_path, "lost", [], config=[], evaluation=None, throughput=None)
    (lost / "events.jsonl").write_text("{")
    (lost / "config.json").write_text("{")
    fault = comparison([("forward", "fc", 5.0), ("backward", "conv1", 3.0)])
    port = port_run(tmp_path, "fault", {"cpu (Small)": fault, "T": comparison()}, commit="c0ffee")
    return [str(run) for run in (whole, lost, port)]


@pytest.mark.slow
def test_no_english_is_left(runs):
    assert _words("<body><p class='left'>SE-ResNet-50 left <code>right</code>") == {"left"}
    text = page(find_records(runs), "zh")
    assert len(re.findall("[\u4e00-\u9fff]+", text)) > 500
    assert sorted(_words(text)) == []


def test_a_verdict_is_that_of_the_log():
    for faults in ([], [("forward", "fc", 5.0)], [("forward", "fc", 5.0), ("backward", "conv1", 3.0)]):
        verdict = comparison(faults).verdict
        assert ": ".join(_verdict(verdict, ENGLISH)) == conclusion(verdict)
        word, rest = _verdict(verdict, LANGUAGES["zh"])
        assert word == ("differs" if faults else "agrees")
        assert not set(re.findall("[a-z]{2,}", rest)) - {"conv", "output", "fc", "layer"}


def test_the_page_names_its_language(tmp_path, capsys):
    run = str(made_up(tmp_path, events=[], evaluation=None))
    for arguments, start in ((["--lang", "zh"], '<html lang="zh-CN">'), ([], '<html lang="en">')):
        assert main([run, "--format", "html", *arguments]) == 0
        text = capsys.readouterr().out
        assert start in text
        checked(text)
