"""HLS: streams as playlists and files over HTTP, and the page that plays them."""
