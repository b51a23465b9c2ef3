from pnil_tf.attacks.registry import attack_named
from pnil_tf.evaluation.glossary import occurring, words_of_attacks
from pnil_tf.vocabulary import ATTACKS

WORDS = (("epsilon, eps", "how far"), ("draw, draws", "an answer"), ("EOT", "averages"))


def test_only_words_that_a_page_uses_are_explained():
    assert occurring(WORDS, "Epsilon is 0.3.") == [("epsilon", "how far")]
    assert occurring(WORDS, "steps, drawn") == []


def test_pictures_and_tags_are_not_read_but_what_pictures_are_said_to_show():
    page = '<p class="verdict eps"><img alt="100 draws" src="data:image/png;base64,EOT+eps"></p>'
    assert occurring(WORDS, page) == [("draws", "an answer")]
    assert occurring([("p", "a value")], page) == []


def test_every_attack_stands_under_its_kind():
    listed = [term.split(", ") for term, _ in words_of_attacks(ATTACKS)]
    assert sorted(name for names in listed for name in names) == sorted(ATTACKS)
    for names in listed:
        assert len({attack_named(name).kind for name in names}) == 1


def test_an_attack_is_found_by_its_whole_name():
    ((term, meaning),) = occurring(words_of_attacks(ATTACKS), "pgd_strong leaves 3%")
    assert term == "pgd_strong"
    assert "gradients" in meaning


def test_an_attack_that_did_not_run_is_not_explained():
    assert occurring(words_of_attacks({"pgd"}), "sd of noise") == []
