"""A suite with every kind of score, for a ticket and a switch of three members."""

from __future__ import annotations

BATTERY_SUITE = """
schema: 1
name: battery
title: Battery
seeds: [0]
matrix:
  dataset: [cifar10]
  network: [preact_resnet18]
datasets:
  cifar10: {source: cifar10}
networks:
  preact_resnet18: {family: preact_resnet18}
searches:
  rst: {}
defenses:
  rst: {kind: ticket, search: rst, ratio: 0.10}
  r2s: {kind: r2s, search: rst, ratios: [0.05, 0.10, 0.20]}
attacks:
  clean: {kind: clean, report_as: none}
  fgsm: {kind: fgsm}
  pgd20: {kind: pgd}
  cw_l2: {kind: cw_l2}
  autoattack: {kind: autoattack}
  square: {kind: square}
  eot: {kind: pgd, report_as: eot_pgd20, view: eot}
  worst: {kind: worst_source, of: pgd20, report_as: pgd20, variant: worst source}
  any: {kind: any_of, of: pgd20, tries: 3, report_as: pgd20, variant: any of 3}
  pointwise: {kind: pointwise, over: [fgsm, pgd20, eot]}
  game: {kind: game, over: [pgd20, eot], held_out: 30}
table:
  layout: list
  cells:
    - {defense: rst, attack: clean}
    - {defense: rst, attack: fgsm}
    - {defense: rst, attack: pgd20}
    - {defense: rst, attack: cw_l2}
    - {defense: rst, attack: autoattack}
    - {defense: rst, attack: square}
    - {defense: r2s, attack: clean}
    - {defense: r2s, attack: pgd20}
    - {defense: r2s, attack: eot}
    - {defense: r2s, attack: autoattack}
    - {defense: r2s, attack: worst}
    - {defense: r2s, attack: any}
    - {defense: r2s, attack: pointwise}
    - {defense: r2s, attack: game}
"""
