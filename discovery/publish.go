package discovery

import (
	"fmt"
	"net"
	"time"

	"github.com/grandcat/zeroconf"
)

const (
	// serverYouth is how long a Server lives before it may be shut down: its receivers join a WaitGroup only once they run.
	serverYouth  = 100 * time.Millisecond
	shutdownWait = 2 * time.Second
)

// publisher is the Server of one link. The zero value publishes nothing.
type publisher struct {
	server *zeroconf.Server
	since  time.Time
}

// start announces the service on one link. No addresses are given: the library then looks up those of the link at each packet.
func (p *publisher) start(c Config, ifi Interface, what said) error {
	dev, err := net.InterfaceByIndex(ifi.Index)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	s, err := zeroconf.RegisterProxy(escapeLabel(what.instance), c.ServiceType, "local", int(c.Port), what.host, nil,
		what.txt, []net.Interface{*dev})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	setTTL(s)
	p.server, p.since = s, time.Now()
	return nil
}

// stop sends one goodbye and closes the Server. Shutdown can hang behind a write that does not end; then it is left behind
// after two seconds.
func (p *publisher) stop() {
	if p.server == nil {
		return
	}
	s, since := p.server, p.since
	p.server = nil
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(serverYouth - time.Since(since))
		s.Shutdown()
	}()
	select {
	case <-done:
	case <-time.After(shutdownWait):
	}
}
