package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/trust"
)

// Trust implements [control.Backend].
func (b backend) Trust(context.Context) ([]control.Trusted, error) {
	list := []control.Trusted{}
	for _, r := range b.a.trust.List() {
		list = append(list, b.a.trusted(r))
	}
	return list, nil
}

func (a *Agent) trusted(r trust.Record) control.Trusted {
	return control.Trusted{
		ID: r.ID.String(), Short: r.ID.Short(), Name: a.peerName(r.ID), Trust: r.Standing.String(), Added: r.Added.Format(time.RFC3339),
		Permissions: control.Permissions{
			AutoAccept: r.AutoAccept, Folder: r.Folder, MaxSize: r.MaxSize, Quota: r.Quota, Used: r.Used,
			RateUp: r.RateUp, RateDown: r.RateDown, Shares: slices.Clone(r.Shares),
		},
	}
}

// ChangeTrust implements [control.Backend].
func (b backend) ChangeTrust(_ context.Context, r control.TrustRequest) (control.Trusted, error) {
	id, err := b.trustee(r)
	if err != nil {
		return control.Trusted{}, err
	}
	switch r.Action {
	case "add":
		err = b.a.trust.Add(id, r.Name)
	case "remove":
		err = b.a.trust.Remove(id)
	case "block":
		err = b.a.trust.Block(id)
	case "set":
		if r.Name != "" {
			err = b.a.trust.Rename(id, r.Name)
		}
	default:
		return control.Trusted{}, &control.Error{Code: control.CodeUsage, Message: "unknown action " + clean.Text(r.Action)}
	}
	if err == nil && r.Permits() && (r.Action == "add" || r.Action == "set") {
		err = b.a.setPermissions(id, r)
	}
	if err != nil {
		return control.Trusted{}, explain(err)
	}
	record, ok := b.a.trust.Record(id)
	if !ok {
		record.ID = id
	}
	return b.a.trusted(record), nil
}

// trustee returns the device that a change of the trust book is about.
func (b backend) trustee(r control.TrustRequest) (identity.DeviceID, error) {
	if r.Action == "add" {
		// Only the whole ID grants trust: a name or a short ID can be imitated.
		id, err := identity.ParseDeviceID(r.Device)
		if err != nil {
			return id, &control.Error{
				Code: control.CodeUsage, Message: clean.Text(r.Device) + " is not a whole device ID: " + err.Error(),
				Hint: "run nigh id on the other device and copy its ID",
			}
		}
		if id == b.a.id.ID {
			return id, &control.Error{Code: control.CodeUsage, Message: "that is this device's own ID", Hint: "run nigh id on the other device"}
		}
		return id, nil
	}
	t, err := b.a.resolve(r.Device)
	if err != nil {
		return t.id, err
	}
	if t.id.IsZero() {
		return t.id, &control.Error{Code: control.CodeAway, Message: "the identity of " + t.name + " is not known yet", Hint: "connect first: nigh group join " + t.name}
	}
	// For a name that two share, the trusted one is right but for this: who
	// blocks may mean the other.
	if r.Action == "block" && !shortID.MatchString(r.Device) && slices.ContainsFunc(b.a.table.views(), func(p control.Peer) bool {
		return p.ID != t.id.String() && strings.EqualFold(p.Name, r.Device)
	}) {
		return t.id, &control.Error{Code: control.CodeAmbiguous, Message: "several devices are called " + clean.Text(r.Device), Hint: "use the short ID"}
	}
	return t.id, nil
}

// setPermissions changes what a trusted device may do.
func (a *Agent) setPermissions(id identity.DeviceID, r control.TrustRequest) error {
	if r.Folder != nil && *r.Folder != "" {
		if _, err := a.into(*r.Folder); err != nil {
			return err
		}
	}
	if r.ResetUsed {
		if err := a.trust.Use(id, -a.record(id).Used); err != nil {
			return err
		}
	}
	return a.trust.SetPermissions(id, func(p *trust.Permissions) {
		if r.AutoAccept != nil {
			p.AutoAccept = *r.AutoAccept
		}
		if r.Folder != nil {
			a.grant(*r.Folder, true)
			p.Folder = *r.Folder
		}
		for to, from := range map[*int64]*int64{&p.MaxSize: r.MaxSize, &p.Quota: r.Quota, &p.RateUp: r.RateUp, &p.RateDown: r.RateDown} {
			if from != nil {
				*to = *from
			}
		}
		switch {
		case r.Shares != nil:
			p.Shares = append([]string{}, *r.Shares...)
		case r.AllShares:
			p.Shares = nil
		}
	})
}

// Configuration implements [control.Backend].
func (b backend) Configuration(context.Context) (control.Configuration, error) {
	return control.Configuration{Settings: b.a.now().shown}, nil
}

// ReloadConfiguration implements [control.Backend].
func (b backend) ReloadConfiguration(context.Context) (control.Configuration, error) {
	later, err := b.a.reload()
	if err != nil {
		return control.Configuration{}, explain(err)
	}
	return control.Configuration{Settings: b.a.now().shown, Later: later}, nil
}
