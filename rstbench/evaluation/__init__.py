"""Evaluation: craft adversarial images against a view, check them, and judge them on every member in fp32."""
