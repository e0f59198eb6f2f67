// Package natsserver runs a NATS server with JetStream in this process, for tests and for the demo.
package natsserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Version is that of the server.
const Version = server.VERSION

// User is somebody who may connect, and to which subjects they may publish and
// subscribe; nil: to all.
type User struct {
	Name, Password     string
	Publish, Subscribe []string
	Respond            bool // once to each message that it is sent, wherever the answer is to go
}

// Config is how the server runs.
type Config struct {
	// Dir keeps the streams; it is the caller's.
	Dir string
	// Port on 127.0.0.1. Default: one that is free.
	Port int
	// Users are all that may connect. Default: everybody.
	Users []User
	// MaxPayload is the largest message. Default: NATS' own, 1 MiB.
	MaxPayload int32
}

// Server is a server that runs.
type Server struct {
	s    *server.Server
	Port int
}

// Start starts a server and waits until it takes connections.
func Start(cfg Config) (*Server, error) {
	o := &server.Options{
		Host: "127.0.0.1", Port: cfg.Port, JetStream: true, StoreDir: cfg.Dir, NoSigs: true, NoLog: true,
		MaxPayload: cfg.MaxPayload, DontListen: false, ServerName: "lockstep",
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	for _, u := range cfg.Users {
		may := &server.Permissions{Publish: &server.SubjectPermission{Allow: u.Publish}, Subscribe: &server.SubjectPermission{Allow: u.Subscribe}}
		if u.Respond {
			may.Response = &server.ResponsePermission{MaxMsgs: 1, Expires: time.Minute}
		}
		o.Users = append(o.Users, &server.User{Username: u.Name, Password: u.Password, Permissions: may})
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("natsserver: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errors.New("natsserver: it does not take connections")
	}
	return &Server{s: s, Port: o.Port}, nil
}

// URL is where clients connect.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.Port) }

// Stop stops it and waits until it has ended.
func (s *Server) Stop() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}
