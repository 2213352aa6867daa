package agent

import (
	"context"

	"nigh/agent/control"
	"nigh/agent/doctor"
)

// Doctor implements [control.Backend]. Devices that are near are asked to dial back first. What status says of the radio is
// made true again, too: the person may just have mended what a check said.
func (b backend) Doctor(ctx context.Context) ([]control.Check, error) {
	b.a.direct.reconsider(ctx)
	cfg := b.a.cfg
	cfg.Inbox = b.a.now().Inbox
	c := cfg.doctor()
	c.Port = b.a.sessions.Port()
	c.DialBack = b.a.inbound.askAll(ctx)
	return checks(doctor.Run(ctx, c)), nil
}

// Log implements [control.Backend].
func (b backend) Log(context.Context) ([]control.LogLine, error) {
	lines, _ := b.a.ring.last()
	return lines, nil
}

// Diagnose runs every check of `nigh doctor`; it works without an agent.
func Diagnose(ctx context.Context, cfg Config) []control.Check {
	_ = cfg.Complete() // what is wrong with it was said when it was read
	return checks(doctor.Run(ctx, cfg.doctor()))
}

// Beside adds to the checks of an agent what only root may see.
func Beside(ctx context.Context, cfg Config, found []control.Check) []control.Check {
	var given []doctor.Check
	for _, c := range found {
		given = append(given, doctor.Check{ID: c.ID, State: doctor.State(c.State), Cause: c.Cause, Fix: c.Fix})
	}
	return checks(doctor.Beside(ctx, doctor.Config{Bus: cfg.Bus}, given))
}

// doctor is what package doctor looks at for this configuration.
func (c *Config) doctor() doctor.Config {
	d := doctor.Config{State: c.State, Inbox: c.Inbox, Socket: c.Socket, Bus: c.Bus}
	if _, total := space(doctor.Existing(c.Inbox)); total > 0 {
		d.MinFree = c.minFree(total)
	}
	if d.Socket == "" {
		d.Socket = control.FindSocket()
	}
	if owner, ok := ownerCheck(*c); ok {
		d.Given = append(d.Given, owner)
	}
	return d
}

func checks(found []doctor.Check) []control.Check {
	out := []control.Check{}
	for _, c := range found {
		out = append(out, control.Check{ID: c.ID, State: string(c.State), Cause: c.Cause, Fix: c.Fix})
	}
	return out
}
