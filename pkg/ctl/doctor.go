package ctl

import (
	"fmt"
	"strings"
)

// Doctor says what this kernel can do for IPsec, found by trying it, which datapath that led to, and why (GET /v1/doctor).
type Doctor struct {
	Kernel   string    `json:"kernel"`            // uname -r
	Running  bool      `json:"running"`           // the choice is that of a daemon that runs; otherwise what it would choose
	Backend  string    `json:"backend"`           // what was asked for: auto, xfrm or userspace
	Datapath string    `json:"datapath"`          // what was chosen; empty: nothing can be, see Why
	Why      string    `json:"why"`               // why this one
	Notes    []string  `json:"notes,omitempty"`   // what is missing and what it means, a sentence each
	Findings []Finding `json:"findings"`          // of this moment
	StrictRP []string  `json:"strict_rp_filter"`  // interfaces with rp_filter=1
	InPlace  string    `json:"in_place,omitzero"` // why the attempts were made beside running SAs, and some left out
}

// Finding is one thing that a kernel may be able to do.
type Finding struct {
	Feature string `json:"feature"`
	Outcome string `json:"outcome"` // yes, no, not tried
	Said    string `json:"said,omitempty"`
	Means   string `json:"means,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// Lines prints it for people.
func (d Doctor) Lines() []string {
	chosen := "would choose"
	if d.Running {
		chosen = "runs with"
	}
	out := []string{"kernel    " + d.Kernel}
	if d.Datapath == "" {
		out = append(out, fmt.Sprintf("datapath  none can be had (backend=%s): %s", d.Backend, d.Why))
	} else {
		out = append(out, fmt.Sprintf("datapath  ikegod %s %s (backend=%s): %s", chosen, d.Datapath, d.Backend, d.Why))
	}
	for _, n := range d.Notes {
		out = append(out, "note      "+n)
	}
	for _, name := range d.StrictRP {
		sysctl := name
		if name == "all interfaces" {
			sysctl = "all"
		}
		out = append(out, fmt.Sprintf("note      rp_filter is 1 (strict) on %s: packets from a tunnel may be dropped there; sysctl -w net.ipv4.conf.%s.rp_filter=2 makes it loose", name, sysctl))
	}
	if d.InPlace != "" {
		out = append(out, "note      "+d.InPlace)
	}
	out = append(out, "")
	var skipped []string
	reasons := map[string][]string{}
	for _, f := range d.Findings {
		if f.Outcome == "not tried" && f.Said == "" && f.Hint == "" { // many have the same reason
			if reasons[f.Means] == nil {
				skipped = append(skipped, f.Means)
			}
			reasons[f.Means] = append(reasons[f.Means], f.Feature)
			continue
		}
		line := fmt.Sprintf("%-20s  %s", f.Feature, f.Outcome)
		if f.Means != "" {
			line += ": " + f.Means
		}
		if f.Said != "" {
			line += " (" + f.Said + ")"
		}
		out = append(out, line)
		if f.Hint != "" {
			out = append(out, "    "+f.Hint)
		}
	}
	for _, why := range skipped {
		out = append(out, fmt.Sprintf("not tried, %s: %s", why, strings.Join(reasons[why], ", ")))
	}
	return out
}
