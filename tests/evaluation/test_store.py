import numpy as np
import pytest

from pnil_tf.errors import UserError, speaking_of_flags
from pnil_tf.evaluation.store import Store, check_identity
from pnil_tf.files import sha256_of

IDENTITY = {"settings": {"epsilon": 0.1, "attacks": ["pgd"]}, "model": "abc"}


def counted(calls):
    def compute():
        calls.append(1)
        return {"a": np.arange(3)}

    return compute


def test_a_piece_is_computed_once_even_by_two_processes(tmp_path):
    calls = []
    first = Store(tmp_path / "state", IDENTITY, resume=False)
    first.once("piece", counted(calls))
    first.once("piece", counted(calls))
    found = Store(tmp_path / "state", IDENTITY, resume=True).once("piece", counted(calls))
    assert len(calls) == 1
    np.testing.assert_array_equal(found["a"], np.arange(3))


def test_without_resume_everything_is_computed_anew(tmp_path):
    calls = []
    for _ in range(2):
        Store(tmp_path / "state", IDENTITY, resume=False).once("piece", counted(calls))
    assert len(calls) == 2


def test_pieces_without_an_identity_are_not_taken_over(tmp_path):
    calls = []
    Store(tmp_path / "state", IDENTITY, resume=False).once("piece", counted(calls))
    (tmp_path / "state" / "identity.json").unlink()
    with pytest.raises(UserError, match=r"no evaluation wrote, such as 'piece\.npz'"):
        Store(tmp_path / "state", {"settings": 2}, resume=True)
    assert (tmp_path / "state" / "piece.npz").exists()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_a_damaged_piece_is_computed_anew(tmp_path, damage):
    calls = []
    store = Store(tmp_path / "state", IDENTITY, resume=False)
    store.once("piece", counted(calls))
    (tmp_path / "state" / "piece.npz").write_bytes(damage)
    store.once("piece", counted(calls))
    assert len(calls) == 2


def test_another_evaluation_cannot_be_resumed(tmp_path):
    Store(tmp_path / "state", IDENTITY, resume=False)
    with pytest.raises(UserError, match="a model of the fingerprint abc"):
        Store(tmp_path / "state", {**IDENTITY, "model": "xyz"}, resume=True)


def test_a_failing_piece_leaves_nothing(tmp_path):
    store = Store(tmp_path / "state", IDENTITY, resume=False)
    with pytest.raises(ZeroDivisionError):
        store.once("piece", lambda: {"a": np.array(1 / 0)})
    assert [file.name for file in (tmp_path / "state").iterdir()] == ["identity.json"]


def test_digest_of_a_folder_sees_names_and_content(tmp_path):
    (tmp_path / "m").mkdir()
    file = tmp_path / "m" / "a"
    file.write_text("1")
    digests = {sha256_of(tmp_path / "m")}
    file.write_text("2")
    digests.add(sha256_of(tmp_path / "m"))
    file.rename(tmp_path / "m" / "b")
    digests.add(sha256_of(tmp_path / "m"))
    assert len(digests) == 3


def test_a_shared_store_leaves_what_another_process_is_writing(tmp_path):
    Store(tmp_path / "state", {"seed": 1}, resume=False)
    unfinished = tmp_path / "state" / ".piece-00000.123.tmp.npz"
    unfinished.write_bytes(b"half")
    Store(tmp_path / "state", {"seed": 1}, resume=True, shared=True)
    assert unfinished.exists()
    with pytest.raises(UserError, match=r"begun with seed=1\. Received: seed=2\."):
        Store(tmp_path / "state", {"seed": 2}, resume=True, shared=True)


@pytest.mark.parametrize(
    ("change", "begun", "received"),
    [
        ({"settings": {"epsilon": 4 / 255}}, "--epsilon=8/255", "--epsilon=4/255"),
        ({"settings": {"seed": 3}}, "--seed=0", "--seed=3"),
        (
            {"settings": {"attacks": ["fgsm", "spsa"], "steps": 5}},
            "--attacks=pgd, no --steps",
            "--attacks=fgsm,spsa, --steps=5",
        ),
        ({"settings": {"seed": 1}, "data": "9" * 64}, "--seed=0", "--seed=1"),
        ({"pixel_range": [0.0, 255.0]}, "--pixel_range=0,1", "--pixel_range=0,255"),
        (
            {"model": "b" * 64},
            "a model of the fingerprint aaaaaaaaaaaa",
            "a model of the fingerprint bbbbbbbbbbbb",
        ),
        (
            {"transfer_from": "c" * 64},
            "no --transfer_from",
            "a model to transfer from of the fingerprint cccccccccccc",
        ),
        ({"version": "9", "settings": {"seed": 1}}, "version 0.1.0 of pnil_tf", "version 9"),
        ({"labels": False}, "labels", "no labels"),
        (
            {"attacks": {"pgd_strong": {"steps": 100, "step_size": 0.3}}},
            "pgd_strong with step_size 0.1",
            "pgd_strong with step_size 0.3",
        ),
        ({"attacks": {}}, "pgd_strong", "no pgd_strong"),
    ],
)
def test_what_differs_is_named_and_nothing_else(change, begun, received, tmp_path):
    settings = {"epsilon": 8 / 255, "seed": 0, "attacks": ["pgd"], "steps": None, "epsilons": []}
    found = {"data": "1" * 64, "settings": settings, "model": "a" * 64, "version": "0.1.0"}
    found |= {"pixel_range": [0.0, 1.0], "labels": True}
    found |= {"attacks": {"pgd_strong": {"steps": 100, "step_size": 0.1}}}
    asked = {**found, **change, "settings": {**settings, **change.get("settings", {})}}
    check_identity(found, found, tmp_path)
    with speaking_of_flags(), pytest.raises(UserError) as error:
        check_identity(found, asked, tmp_path)
    assert f"it was begun with {begun}. Received: {received}. " in str(error.value)
    if "transfer_from" in change:  # an entry that is not there any more differs, too
        with pytest.raises(UserError):
            check_identity(asked, found, tmp_path)


def test_attacks_whose_settings_were_not_noted_are_not_gone_on_with(tmp_path):
    asked = {"version": "0.1.0", "attacks": {"pgd": {"steps": 50}}}
    with pytest.raises(UserError, match="attacks whose settings an earlier version did not note"):
        check_identity({"version": "0.1.0"}, asked, tmp_path)
