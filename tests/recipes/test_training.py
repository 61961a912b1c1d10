"""Training works in the small: a batch can be learnt, the fast forward pass is the real one, a resume goes on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from torch import nn

from recipes.tiny import configs, latents, text, transformer, vae
from recipes.tiny.curriculum import PHASES, phase
from recipes.tiny.forward import Forward
from recipes.tiny.optim import Muon, Plan, Trainer, orthogonalise
from recipes.tiny.windows import Batch, coordinates, noised, starts
from recipes.tiny.world import sample

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")
"""`meta` stands for a graphics card: it computes no values, but a tensor that was left on the CPU is an error there."""
SMALL = configs.TRANSFORMER | {"num_layers": 2, "num_attention_heads": 2, "cross_attention_dim": 64}


@pytest.fixture(autouse=True)
def _learning() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.enable_grad():
        yield


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    for shape in ((2, 16, 40), (3, 40, 16)):
        made = orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
        values = torch.linalg.svdvals(made)
        assert values.min() > 0.4
        assert values.max() < 1.4


def test_muon_takes_kernels_of_any_rank() -> None:
    kernel = nn.Parameter(torch.zeros(8, 4, 3, 3, 3))
    kernel.grad = torch.randn(kernel.shape)
    Muon([kernel], lr=1.0, weight_decay=0.0).step()
    update = kernel.detach().flatten(1)
    assert torch.linalg.svdvals(update).max() < 1.4 * 0.2 * 108**0.5


def test_the_fast_forward_pass_is_diffusers_own() -> None:
    torch.manual_seed(0)
    model = LTXVideoTransformer3DModel(**SMALL)
    x, sigmas = torch.randn(2, 5, 6, 64), torch.rand(2, 5)
    caption, mask = torch.randn(2, 32, 64), (torch.arange(32) < 20).long().expand(2, -1)
    coords = coordinates(starts(5), 2, 3, 24.0)
    with torch.no_grad():
        fast = Forward(model, compiled=False)(x, sigmas, caption, mask, coords)
        times = sigmas.repeat_interleave(6, dim=1) * 1000
        slow = model(x.flatten(1, 2), caption, times, mask, video_coords=coords.expand(2, -1, -1), return_dict=False)
    torch.testing.assert_close(fast.flatten(1, 2), slow[0], atol=2e-5, rtol=1e-4)


def test_a_decoder_with_more_layers_begins_as_the_one_with_fewer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shallow, deep = AutoencoderKLLTXVideo(**configs.SHALLOW_VAE), AutoencoderKLLTXVideo(**configs.VAE)
    torch.save({"averaged": shallow.state_dict()}, tmp_path / "shallow.pt")
    vae.load(deep, tmp_path / "shallow.pt")
    values = torch.randn(1, configs.LATENT_CHANNELS, 2, 2, 2)
    assert len(deep.state_dict()) > len(shallow.state_dict())
    torch.testing.assert_close(deep.decoder(values), shallow.decoder(values))


def test_a_transformer_with_more_layers_begins_as_the_one_with_fewer(tmp_path: Path) -> None:
    shallow, deep = transformer.models(configs.SHALLOW_TRANSFORMER), transformer.models()
    nn.init.normal_(shallow.get_parameter("transformer.proj_out.weight"))  # in a new model it makes only zeros
    torch.save({"averaged": dict(shallow.named_parameters())}, tmp_path / "shallow.pt")
    transformer.load(deep, tmp_path / "shallow.pt")
    x, sigmas = torch.randn(1, 3, 4, configs.LATENT_CHANNELS), torch.rand(1, 3)
    caption, mask = torch.randn(1, configs.SEQUENCE, configs.CAPTION), torch.ones(1, configs.SEQUENCE)
    coords = coordinates(starts(3), 2, 2, configs.FPS)
    with torch.no_grad():
        made, same = (
            Forward(family["transformer"], compiled=False)(x, sigmas, caption, mask, coords)
            for family in (deep, shallow)
        )
    assert len(deep.state_dict()) > len(shallow.state_dict())
    torch.testing.assert_close(made, same)
    torch.save({"averaged": dict(deep.named_parameters())}, tmp_path / "deep.pt")
    again = transformer.models()
    transformer.load(again, tmp_path / "deep.pt")
    torch.testing.assert_close(again.state_dict(), deep.state_dict())


def test_a_clip_that_is_easy_to_draw_counts_as_much_as_a_hard_one() -> None:
    clips, near = torch.zeros(2, 3, 5, 16, 16), torch.zeros(2, 1, 5, 16, 16)
    error = torch.randn(clips.shape, generator=torch.Generator().manual_seed(3)) * torch.tensor([0.03, 0.3]).view(
        2, 1, 1, 1, 1
    )

    def gains(loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> tuple[float, float]:
        easy, hard = (error * torch.tensor(halves).view(2, 1, 1, 1, 1) for halves in ((0.5, 1.0), (1.0, 0.5)))
        whole = loss(error, clips, near)
        return float(whole - loss(easy, clips, near)), float(whole - loss(hard, clips, near))

    easy, hard = gains(vae.relative_loss)
    assert easy > 0.6 * hard
    easy, hard = gains(vae.reconstruction_loss)
    assert easy < 0.1 * hard


def test_a_fixed_batch_is_learnt_and_a_resume_goes_on(tmp_path: Path) -> None:
    def trainer() -> tuple[nn.Module, Trainer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
        return model, Trainer(model, Plan(((40, 20),), muon=0.02, adam=0.01, warmup=2), lambda _, p: p.ndim > 1)

    dice = torch.Generator().manual_seed(2)
    x = torch.randn(32, 8, generator=dice)
    y = x.flip(1)

    def loss(model: nn.Module) -> torch.Tensor:
        made: torch.Tensor = model(x.bfloat16()).float()
        return (made - y).square().mean()

    model, whole = trainer()
    losses = []
    for step in range(40):
        value = loss(model)
        losses.append(float(value.detach()))
        whole.step(value)
        if step == 19:
            whole.save(tmp_path / "half.pt")
    assert losses[-1] < 0.3 * losses[0]
    model, second = trainer()
    second.resume(tmp_path / "half.pt")
    for _ in range(20):
        second.step(loss(model))
    for a, b in zip(whole.masters, second.masters, strict=True):
        torch.testing.assert_close(a, b)


def test_one_step_of_the_autoencoder_lowers_its_loss() -> None:
    run = vae.Run("joint", 0, CPU)
    image = next(i for i in range(100) if vae.scenes_of_step("joint", i, 0)[0][0].num_frames == 1)
    first = run.loss(image)
    for _ in range(3):
        run.trainer.step(run.loss(image))
    assert float(run.loss(image).detach()) < float(first.detach())


def test_a_step_of_the_autoencoder_stays_on_its_device() -> None:
    run = vae.Run("joint", 0, ELSEWHERE)
    loss = run.loss(0)
    assert loss.device == ELSEWHERE
    loss.backward()


def test_a_step_of_the_transformer_stays_on_its_device() -> None:
    model = LTXVideoTransformer3DModel(**SMALL).to(ELSEWHERE)
    frames, cells = 3, 2
    batch = Batch(
        x=torch.randn(2, frames, cells, configs.LATENT_CHANNELS),
        target=torch.randn(2, frames, cells, configs.LATENT_CHANNELS),
        sigmas=torch.rand(2, frames),
        weight=torch.ones(2, frames, cells),
        ids=torch.ones(2, configs.SEQUENCE, dtype=torch.long),
        mask=torch.ones(2, configs.SEQUENCE, dtype=torch.long),
        coords=coordinates(starts(frames), 1, cells, configs.FPS),
    )
    moved, caption = batch.to(ELSEWHERE), torch.randn(2, configs.SEQUENCE, configs.CAPTION, device=ELSEWHERE)
    made = Forward(model, compiled=False)(moved.x, moved.sigmas, caption, moved.mask, moved.coords)
    error = ((made - moved.target).square() * moved.weight[..., None]).mean()
    assert error.device == ELSEWHERE
    error.backward()


def test_muon_keeps_its_momentum_on_the_weights_device() -> None:
    weight = nn.Parameter(torch.zeros(8, 4, device=ELSEWHERE))
    weight.grad = torch.zeros_like(weight)
    muon = Muon([weight], lr=1.0, weight_decay=0.0)
    muon.step()
    assert muon.state[weight]["momentum"].device == ELSEWHERE


def test_given_frames_are_clean_and_not_learnt() -> None:
    dice = torch.Generator().manual_seed(5)
    clean, known = torch.randn(64, 9, 4, 3), (torch.arange(9) < 5).expand(64, -1)
    sigma = torch.full((64,), 0.9)
    x, target, sigmas, learnt = noised(clean, known, sigma, 0.2, dice)
    hard = sigmas[:, 0] == 0
    assert 0.6 < hard.float().mean() < 0.95
    assert (learnt[hard][:, :5] == 0).all()
    assert (learnt[:, 5:] == 1).all()
    assert (sigmas[~hard][:, :5] <= 0.6 + 1e-3).all()
    moved = x - sigmas[..., None, None] * target
    torch.testing.assert_close(moved[:, 5:], clean[:, 5:], atol=1e-5, rtol=0)


def test_cells_of_the_object_follow_it() -> None:
    scene = sample(5, "straight", num_frames=33)
    masks = latents.cell_masks([scene], 1)
    assert masks.shape == (1, 9, 4, 4)
    x, y = scene.things[0].start
    assert masks[0, 0, int((y + 32) // 16), int((x + 32) // 16)]
    assert not masks.all()


def test_words_become_tokens_and_strangers_unknown() -> None:
    words = text.tokenizer()
    ids, mask = text.tokens(words, ["a red circle moving down-left, quickly", "Cinematic RED flux."])
    assert ids.shape == (2, configs.SEQUENCE)
    assert text.UNKNOWN not in ids[0].tolist()
    assert ids[1, :5].tolist() == [2, words.convert_tokens_to_ids("red"), 2, words.convert_tokens_to_ids("."), 1]
    assert mask[1].sum() == 5


def test_the_family_stays_small() -> None:
    family = transformer.models()
    assert sum(p.numel() for p in family.parameters()) < 5_500_000


def test_the_schedule_warms_up_holds_and_falls() -> None:
    plan = Plan(((100, 50), (80, 20)), muon=1.0, adam=1.0, warmup=10)
    assert plan.steps == 80
    assert [plan.rate(step) for step in (0, 9, 40, 70, 75)] == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.25])


def test_phases_follow_each_other_and_shares_are_whole() -> None:
    starts = [p.start for p in PHASES]
    assert starts == sorted(starts)
    assert phase(0) is PHASES[0]
    assert phase(starts[-1] - 1) is PHASES[-2]
    assert phase(starts[-1]) is PHASES[-1]
    for p in PHASES:
        assert sum(p.groups.values()) == pytest.approx(1)
        assert sum(p.context.values()) == pytest.approx(1)
        assert set(p.groups) == {group.name for group in latents.GROUPS}
