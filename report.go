package main

import (
	"context"

	"nigh/agent"
	"nigh/agent/doctor"
	"nigh/cli"
)

// report is `nigh bug-report`: what the agent said and what this machine is, masked.
func report(ctx context.Context, f cli.Findings) string {
	mask := doctor.NewMask()
	hide(mask, f)
	cfg, err := settings(cli.AgentOptions{})
	problem := f.Problem
	if err != nil {
		problem += "\n" + agent.Explain(err).Message
	}
	mask.Hide("device", cfg.Name)
	r := doctor.NewReport(ctx, doctor.Config{Bus: cfg.Bus}, programVersion(), mask)
	if problem != "" {
		r.Section("Problem", problem)
	}
	var checks []doctor.Check
	for _, c := range f.Checks {
		checks = append(checks, doctor.Check{ID: c.ID, State: doctor.State(c.State), Cause: c.Cause, Fix: c.Fix})
	}
	r.Checks(checks)
	for _, part := range []struct {
		title string
		value any
	}{{"Status", f.Status}, {"Groups", f.Groups}, {"Peers", f.Peers}, {"Trusted", f.Trusted}} {
		if err := r.JSON(part.title, part.value); err != nil {
			r.Section(part.title, err.Error())
		}
	}
	var lines []doctor.LogLine
	for _, l := range f.Log {
		lines = append(lines, doctor.LogLine{Time: l.Time, Level: l.Level, Message: l.Message, Attrs: l.Attrs})
	}
	r.Log(lines)
	return r.Text()
}

// hide has every name that the agent knows replaced.
func hide(mask *doctor.Mask, f cli.Findings) {
	groups := f.Groups
	if s := f.Status; s != nil {
		mask.Hide("device", s.Name)
		mask.Hide("id", s.ID)
		mask.Hide("id", s.Short)
		groups = append(groups, s.Groups...)
	}
	for _, g := range groups {
		mask.Hide("ssid", g.SSID)
		mask.Hide("secret", g.Passphrase)
		for _, s := range g.Stations {
			mask.Hide("device", s.Name)
		}
	}
	for _, p := range f.Peers {
		mask.Hide("device", p.Name)
		mask.Hide("id", p.ID)
		mask.Hide("id", p.Short)
	}
	for _, t := range f.Trusted {
		mask.Hide("device", t.Name)
		mask.Hide("id", t.ID)
		mask.Hide("id", t.Short)
	}
}
