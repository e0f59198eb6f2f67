package main

import "context"

func (b *bench) propagationPeers(context.Context) ([]way, error) { return nil, nil }
