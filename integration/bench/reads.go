package main

import "context"

func reads(_ context.Context, b *bench) error { return b.views() }
