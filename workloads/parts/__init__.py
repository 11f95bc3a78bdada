"""Parts that several pipelines share: request fields, text encoders, decoders."""
