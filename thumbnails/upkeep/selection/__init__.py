"""Which images: each condition as text, URL, option and query; and pages of them."""
