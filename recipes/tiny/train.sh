#!/bin/sh
# The whole recipe, from nothing to the weights in the package. Every stage resumes where it was stopped.
#   recipes/tiny/train.sh            (from the repository's root, in its virtual environment)
set -eu
. recipes/tiny/env.sh
pair="torchrun --standalone --nproc-per-node 2 -m"

$pair recipes.tiny.vae joint --resume
$pair recipes.tiny.latents
(for phase in decoder deeper finer finest last; do python -m recipes.tiny.vae "$phase" --resume; done) &
decoder=$!
$pair recipes.tiny.transformer main --resume
$pair recipes.tiny.transformer polish --resume
for stage in lasting walls together again; do python -m recipes.tiny.transformer "$stage" --resume; done
$pair recipes.tiny.latents --first 20000  # clips that no stage has seen
for stage in fresh requests; do python -m recipes.tiny.transformer "$stage" --resume; done
$pair recipes.tiny.latents --first 50000
python -m recipes.tiny.transformer bounces --resume
$pair recipes.tiny.latents --first 90000
python -m recipes.tiny.transformer deeper --resume
$pair recipes.tiny.latents  # those of which recipes/tiny_av/train.sh makes the sounds
wait "$decoder"
python -m recipes.tiny.upsampler --resume
python -m recipes.tiny.export
python -m recipes.tiny.evaluate
python -m recipes.tiny.lasting
