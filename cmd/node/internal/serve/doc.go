// Package serve answers HTTP requests from a node's memory.
package serve
