from __future__ import annotations

import importlib.metadata

import torch

from svdlab import doctor


def found(findings, what):
    return next(finding for finding in findings if finding.what == what)


def test_a_whole_installation_has_no_problem():
    findings = doctor.checkup()
    assert [finding for finding in findings if finding.state == "problem"] == []
    assert found(findings, "torch").found == importlib.metadata.version("torch")
    assert found(findings, "model tiny-random").state == "ok"


def test_what_is_missing_comes_with_the_command_that_mends_it(monkeypatch, tmp_path):
    monkeypatch.setenv("SVDLAB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(doctor, "NEEDED", ("torch", "a-package-that-nobody-wrote"))
    monkeypatch.setattr(doctor, "EXTRAS", {"test": "pytest", "moon": "a_module_that_nobody_wrote"})
    findings = doctor.checkup()
    assert found(findings, "a-package-that-nobody-wrote").state == "problem"
    assert found(findings, "LPIPS weights").mend == "svdlab weights lpips"
    assert found(findings, "model svd-xt").mend == "svdlab weights svd-xt"
    assert found(findings, "extra [moon]").mend == 'pip install "svdlab[moon]"'


def test_more_threads_than_cores_is_a_problem(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    threads = found(doctor.checkup(), "threads")
    assert threads.state == "problem"
    assert "OMP_NUM_THREADS" in threads.mend
