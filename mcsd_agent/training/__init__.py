"""Training: demonstrations, imitation and reinforcement. Everything here may need torch and stable-baselines3."""
