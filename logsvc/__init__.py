"""The log service of a Heroku-compatible platform: tails that resume, history without a seam."""
