"""The tiny models stand in for real ones, so they must have the same traps."""

import socket

import jinja2
import pytest

ALICE = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


@pytest.fixture(scope="module")
def llama_tokenizer(tiny_model_dir):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_dir, local_files_only=True)


@pytest.fixture(scope="module")
def mistral_tokenizer(tiny_mistral_dir):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_mistral_dir, local_files_only=True)


@pytest.mark.parametrize("name", ["tiny_model_dir", "tiny_mistral_dir"])
def test_they_load_and_generate(name, request):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(request.getfixturevalue(name), local_files_only=True)
    assert model.num_parameters() < 200_000
    assert model.generate(model.dummy_inputs["input_ids"], max_new_tokens=2, do_sample=False).shape[1] >= 3


def test_the_llama_renders_chatml(llama_tokenizer):
    rendered = llama_tokenizer.apply_chat_template(ALICE[:1], add_generation_prompt=True, tokenize=False)
    assert rendered == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert llama_tokenizer.eos_token == "<|im_end|>"


def test_the_mistral_forgets_a_system_text_once_somebody_has_answered(mistral_tokenizer):
    system = [{"role": "system", "content": "Be brief."}]
    asked = mistral_tokenizer.apply_chat_template(system + ALICE[:1], tokenize=False)
    answered = mistral_tokenizer.apply_chat_template(system + ALICE, tokenize=False)
    assert asked == "<s>[INST] Be brief.\n\nHello[/INST]"
    assert answered == "<s>[INST] Hello[/INST] Hi</s>"


def test_the_mistral_refuses_two_turns_of_a_role(mistral_tokenizer):
    with pytest.raises(jinja2.TemplateError, match="alternate"):
        mistral_tokenizer.apply_chat_template([*ALICE, ALICE[1]], tokenize=False)


def test_the_mistral_doubles_its_start_when_a_rendering_is_tokenised_again(mistral_tokenizer):
    rendered = mistral_tokenizer.apply_chat_template(ALICE, add_generation_prompt=True, tokenize=False)
    assert mistral_tokenizer(rendered).input_ids[:2] == [1, 1]
    assert mistral_tokenizer.pad_token is None


def test_no_test_reaches_another_host(looked_up_hosts):
    with pytest.raises(socket.gaierror):
        socket.create_connection(("example.com", 80))
    assert looked_up_hosts == ["example.com"]
