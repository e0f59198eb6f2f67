// Package metrics shows a node to Prometheus, and to whatever else gathers from a
// prometheus.Gatherer.
//
//	node, err := lockstep.Start(ctx, pool, cfg, tables...)
//	...
//	registry.MustRegister(metrics.New(node))
//
// It has no registry of its own and takes nothing of the node's: everything is read
// from Node.Status when it is gathered, so that Config.OnCut stays the application's.
// Where a process has several nodes, prometheus.WrapRegistererWith tells them apart.
//
// docs/metrics.md says what each metric means, and which to watch.
package metrics
