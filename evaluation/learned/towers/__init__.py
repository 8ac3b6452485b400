"""The networks behind the learned metrics, loaded from published weights."""
