#!/bin/sh
# The whole recipe of the second family, from the first family's weights and latents to the weights in the package.
#   recipes/tiny_av/train.sh            (from the repository's root, in its virtual environment)
set -eu
. recipes/tiny/env.sh
pair="torchrun --standalone --nproc-per-node 2 -m"

python -m recipes.tiny_av.picture --resume &
python -m recipes.tiny_av.audio_vae joint --resume
python -m recipes.tiny_av.caption
wait
$pair recipes.tiny_av.sounds
python -m recipes.tiny_av.audio_vae decoder --resume
for phase in main polish; do python -m recipes.tiny_av.vocoder "$phase" --resume; done
for stage in main finish; do $pair recipes.tiny_av.transformer "$stage" --resume; done
$pair recipes.tiny_av.exchange --resume
for stage in lasting polish walls bounces deeper ends; do python -m recipes.tiny_av.transformer "$stage" --resume; done
for move in dolly_in dolly_out dolly_left dolly_right jib_up jib_down static; do python -m recipes.tiny_av.camera "$move" --resume; done
python -m recipes.tiny_av.distill --resume
python -m recipes.tiny_av.export
python -m recipes.tiny_av.evaluate
python -m recipes.tiny_av.lasting
