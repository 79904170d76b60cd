"""The commands for using a trained model: arguments in, a call of the toolkit, results out."""
