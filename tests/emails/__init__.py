"""A project whose users are known by their e-mail address: an app with its own user model."""
