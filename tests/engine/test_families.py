"""On every family of models, scores equal those of one forward pass a label, or raise an error."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from packaging.version import Version

from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.forward import label_log_likelihoods, token_log_likelihoods
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.scoring.strategies import FULL_PROMPTS
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.exceptions import ScoringError, TruncationWarning
from tests.engine.scoring.test_label_scoring import LABEL_SETS, make_encoder, score_naively
from tests.families import check_family, list_families, make_family
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

EXACT = [
    "bloom",  # biases for positions
    "cohere2",  # layers with and without positions
    "deepseek_v3",  # latent attention, experts
    "falcon",
    "gemma3_text",  # windows in some layers
    "gpt_bigcode",  # one head of keys and values
    "minimax",  # a state in addition to keys and values
    "opt",  # learned positions that begin at 2
    "phi3",
    "qwen3_moe",
    "roberta",  # positions that begin after the padding id
    "rwkv",  # a recurrence
]
IS_OLD = Version(transformers.__version__) < Version("5.20")
REFUSED = {
    "prophetnet": "ProphetNetForCausalLM cannot score labels: it does not take token ids alone",
    "xlnet": "Scores of XLNetLMHeadModel change by .* not a causal language model",
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("family", EXACT)
def test_scores_equal_a_naive_forward_pass(family):
    outcome = check_family(family)
    if outcome.kind == "not built" and IS_OLD:
        pytest.skip(f"An older transformers makes no such small model: {outcome.detail}")
    assert outcome.kind == "exact", outcome


@pytest.mark.parametrize(("family", "match"), REFUSED.items())
def test_a_model_that_cannot_be_scored_is_an_error_that_says_why(family, match):
    classifier = PromptClassifier((make_family(family), make_tokenizer()), n_shots=2)
    with pytest.raises(ScoringError, match=match):
        classifier.fit(["a", "b"], ["negative", "positive"]).predict(["c"])


def test_a_model_whose_scores_depend_on_whether_it_gets_a_mask_is_an_error(tokenizer):
    view = shared_view(make_model())

    class LouderWithAMask(type(view)):  # a new class, for which no strategy is known
        def forward(self, input_ids=None, attention_mask=None, **options):
            states = self.get_input_embeddings()(input_ids)
            if attention_mask is not None:
                states = states * 2
            return super().forward(inputs_embeds=states, attention_mask=attention_mask, **options)

    view.__class__ = LouderWithAMask
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"])
    with pytest.raises(ScoringError, match="differ by .* from those of a forward pass over the to"):
        LocalLabelScorer(view, encoder).score(["good"])


def test_a_forward_pass_over_token_ids_alone_gives_the_scores_of_full_prompts(model, tokenizer):
    encoder = make_encoder(tokenizer, ["negative", "very positive"])
    (prompt,) = encoder.encode(["good"])
    scores = label_log_likelihoods(model, [prompt], FULL_PROMPTS.layout)[0].tolist()
    for label, score in enumerate(scores):
        tokens = [token for of, _, token in prompt.trie.edges if of == label]
        bare = token_log_likelihoods(model, [*prompt.ids, *tokens])
        assert len(bare) == prompt.n_tokens + len(tokens) - 1
        assert bare[-len(tokens) :].sum().item() == pytest.approx(score, abs=1e-5)


def test_no_text_reaches_the_length_at_which_dynamic_rotary_angles_change(tokenizer):
    """Dynamic angles change with the longest text beyond the context, where no text gets."""
    n_context = 400
    scaling = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}
    model = make_model(max_position_embeddings=n_context, rope_parameters=scaling)
    classifier = PromptClassifier((model, tokenizer), n_shots=2, calibration=None)
    classifier.fit(["a text", "another"], ["negative", "positive"])
    assert classifier.max_length_ == n_context
    short, long = "good film", "film " * 2 * n_context
    alone = classifier.label_log_likelihood([short])
    with pytest.warns(TruncationWarning, match="1 text is longer"):
        together = classifier.label_log_likelihood([long, short])
    np.testing.assert_allclose(together[1:], alone, rtol=0, atol=1e-5)
    np.testing.assert_allclose(classifier.label_log_likelihood([short]), alone, rtol=0, atol=1e-5)
    words = classifier.label_words_
    cut = PromptEncoder(tokenizer, classifier.prompt_, words, n_context).shorten(long)
    whole = PromptEncoder(tokenizer, classifier.prompt_, words, None)
    expected = score_naively(model, tokenizer, whole, [cut, short])
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # warnings of models when they are made
def test_layers_of_different_widths_are_tuned():
    model = make_family("gemma3n_text")
    assert isinstance(model.config.intermediate_size, list)
    classifier = InstructionTunedClassifier(
        (model, make_tokenizer()), n_shots=4, max_epochs=1, random_state=0
    ).set_params(training_options__target_loss=99)
    assert set(classifier.fit(TEXTS, LABELS).predict(["x"])) <= set(LABELS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of models when they are made
@pytest.mark.parametrize("family", list_families())
def test_every_family_is_exact_or_refused(family):
    outcome = check_family(family)
    if outcome.kind == "not built":
        pytest.skip(outcome.detail)
    assert outcome.kind in {"exact", "refused"}, outcome
