// Package window is a page on a cluster: each node's state and staleness over
// time, the outbox, and rows as a node holds them. The page comes from files in
// this program; what it shows is pushed to it, charts as SVG.
package window
