"""`{% load thumbnails %}`: the tags `thumbnail`, `picture` and `thumbnail_url`."""

from django import template

from thumbnails import markup

register = template.Library()
for tag in (markup.thumbnail, markup.picture, markup.thumbnail_url):
    register.simple_tag(tag)
