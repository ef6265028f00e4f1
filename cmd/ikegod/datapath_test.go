package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/probe"
	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/pkg/iana"
)

// kernelLike is a report of a kernel that can do everything but these.
func kernelLike(without ...probe.Finding) *probe.Report {
	r := &probe.Report{Release: "6.1.0-test", IPv6: true}
	for f := range r.Findings {
		r.Findings[f] = probe.Finding{Feature: probe.Feature(f), Outcome: probe.Yes}
	}
	for _, f := range without {
		r.Findings[f.Feature] = f
	}
	return r
}

func lacks(f probe.Feature, means, hint string) probe.Finding {
	return probe.Finding{Feature: f, Outcome: probe.No, Means: means, Said: "EINVAL: invalid argument", Hint: hint}
}

// TestAbilities: from what a kernel can do to the datapath, with the reason that the operator reads.
func TestAbilities(t *testing.T) {
	noESP := kernelLike(lacks(probe.ESP4, "no ESP", "modprobe esp4"), lacks(probe.ESP6, "no ESP over IPv6", "modprobe esp6"))
	for f := range noESP.Findings {
		if f := probe.Feature(f); f == probe.UDPEncap || f >= probe.AESGCM && f <= probe.SHA1 {
			noESP.Findings[f] = probe.Finding{Feature: f, Means: "there is no ESP for it"}
		}
	}
	oldHost := kernelLike(lacks(probe.ESP6, "no ESP over IPv6", "modprobe esp6"))
	oldHost.IPv6 = false
	debian := kernelLike(lacks(probe.TCPEncap, "no espintcp", "another kernel"), lacks(probe.TCPEncap6, "no espintcp over IPv6", ""))
	noMarks := kernelLike(lacks(probe.TCPEncap, "no espintcp", "another kernel"), lacks(probe.NFTSecpath, "no secpath", ""))
	for _, tc := range []struct {
		name  string
		r     *probe.Report
		shape kernel.Shape
		why   string
	}{
		{"everything", kernelLike(), kernel.ShapeXFRM, "in TCP too"},
		{"Debian", debian, kernel.ShapeSplit, "no espintcp (EINVAL: invalid argument); another kernel"},
		{"espintcp without IPv6", kernelLike(lacks(probe.TCPEncap6, "no espintcp over IPv6", "")), kernel.ShapeSplit, "no espintcp over IPv6"},
		{"no ESP", noESP, kernel.ShapeUserspace, "no ESP (EINVAL: invalid argument); modprobe esp4"},
		{"no ESP over IPv6", kernelLike(lacks(probe.ESP6, "no ESP over IPv6", "modprobe esp6")), kernel.ShapeUserspace, "modprobe esp6"},
		{"no ESP over IPv6, and no IPv6", oldHost, kernel.ShapeXFRM, "in TCP too"},
		{"no XFRM", kernelLike(lacks(probe.XFRM, "no XFRM", "")), kernel.ShapeUserspace, "no XFRM"},
		{"no secpath", noMarks, kernel.ShapeUserspace, "no secpath"},
		{"no ChaCha20", kernelLike(lacks(probe.ChaCha20, "no ChaCha20", "modprobe chacha20poly1305")), kernel.ShapeUserspace, "modprobe chacha20poly1305"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := kernel.Choose(kernel.BackendAuto, abilities(tc.r), "")
			if err != nil || c.Shape != tc.shape || !strings.Contains(c.Why, tc.why) || strings.Contains(c.Why, "not tried") || strings.Contains(c.Why, "there is no ESP for it") {
				t.Errorf("%+v, %v; want %s because %q", c, err, tc.shape, tc.why)
			}
		})
	}
}

// TestLackingCBC: AES-CBC is tried with integrity algorithms, and one of these that is missing says nothing about it.
func TestLackingCBC(t *testing.T) {
	no := func(fs ...probe.Feature) (all []probe.Finding) {
		for _, f := range fs {
			all = append(all, lacks(f, "no "+f.String(), ""))
		}
		return all
	}
	for _, tc := range []struct {
		without []probe.Feature
		lacks   bool
	}{
		{nil, false},
		{[]probe.Feature{probe.AESCBC, probe.SHA2_256}, false},
		{[]probe.Feature{probe.AESCBC, probe.SHA2_256, probe.SHA2_384, probe.SHA2_512, probe.SHA1}, true},
	} {
		got := lacking(kernelLike(no(tc.without...)...))
		if text, lacks := got.Encr[iana.ENCR_AES_CBC]; lacks != tc.lacks || lacks && !strings.Contains(text, "no AES_CBC") {
			t.Errorf("without %v: AES_CBC %v, %q", tc.without, lacks, text)
		}
		if _, lacks := got.Integ[iana.AUTH_HMAC_SHA2_256_128]; lacks != (len(tc.without) > 0) {
			t.Errorf("without %v: SHA-256 %v", tc.without, lacks)
		}
	}
}

// TestDoctor runs the subcommand: it says what would be chosen on the machine under the test, and why.
func TestDoctor(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: ikegod doctor; it needs root to find anything out")
	}
	var text, asJSON bytes.Buffer
	for _, tc := range []struct {
		out  *bytes.Buffer
		args []string
	}{{&text, []string{"doctor", "--settings="}}, {&asJSON, []string{"doctor", "--json", "--settings="}}} {
		c := command()
		c.SetOut(tc.out)
		c.SetArgs(tc.args)
		if err := c.ExecuteContext(t.Context()); err != nil {
			t.Fatalf("%v: %v\n%s", tc.args, err, tc.out)
		}
	}
	t.Logf("\n%s", text.String())
	var d ctl.Doctor
	if err := json.Unmarshal(asJSON.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if d.Running || d.Backend != "auto" || d.Datapath == "" || d.Why == "" || len(d.Findings) != int(probe.NumFeatures) {
		t.Errorf("%+v", d)
	}
	for _, want := range []string{"ikegod would choose " + d.Datapath + " (backend=auto): " + d.Why, "kernel    " + d.Kernel, "TUN"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	c := command()
	c.SetArgs([]string{"doctor", "--backend=netkey", "--settings="})
	if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "netkey") {
		t.Errorf("a backend that is none: %v", err)
	}
}
