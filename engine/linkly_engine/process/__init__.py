"""Workers in processes of their own, beside the engine.

It knows neither config.yaml nor the command line, nor the language of a program.
"""
