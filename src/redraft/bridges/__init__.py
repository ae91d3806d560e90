"""Checks and chains inside of other people's frameworks: one small file for each, which imports it.

A check gives the same score, verdict and feedback in all of them, because all ask `judged`.
"""
