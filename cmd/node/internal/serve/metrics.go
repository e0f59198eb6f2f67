package serve

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// meters are what the handler counts itself, in a registry that also holds the
// process' metrics and, once there is one, the node's.
type meters struct {
	registry *prometheus.Registry
	page     http.Handler
	requests *prometheus.CounterVec
	ended    *prometheus.CounterVec // streams, by why
}

func newMeters(h *Handler) *meters {
	m := &meters{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockstep_http_requests_total", Help: "Requests answered."}, []string{"method", "code"}),
		ended:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockstep_http_streams_ended_total", Help: "Streams of changes that have ended, by why."}, []string{"why"}),
	}
	for _, why := range []string{"left", "slow", "refused", "closing", "behind"} {
		m.ended.WithLabelValues(why)
	}
	streams := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockstep_http_streams", Help: "Streams of changes that are open."}, func() float64 { return float64(h.streams.Load()) })
	window := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockstep_http_window_bytes", Help: "Memory of the recent changes that a stream can resume from."}, func() float64 { return float64(h.teller.window.size()) })
	m.registry.MustRegister(m.ended, streams, window, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.requests)
	m.page = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn), MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	})
	return m
}

// answered counts a request.
func (m *meters) answered(method string, code int) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		method = strings.ToLower(method)
	default:
		method = "other" // a client may send any word
	}
	m.requests.WithLabelValues(method, strconv.Itoa(code)).Inc()
}

// counted is a response that remembers its status.
type counted struct {
	http.ResponseWriter
	code int // 0: none yet
}

func (c *counted) WriteHeader(code int) {
	if c.code == 0 {
		c.code = code
	}
	c.ResponseWriter.WriteHeader(code)
}

func (c *counted) Write(b []byte) (int, error) {
	if c.code == 0 {
		c.code = http.StatusOK
	}
	return c.ResponseWriter.Write(b) //nolint:wrapcheck // the same call
}

// Unwrap lets http.ResponseController find what is below.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }
