package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/hostnet"
	"github.com/ikegod/ikegod/kernel/probe"
	"github.com/ikegod/ikegod/kernel/userspace"
	"github.com/ikegod/ikegod/kernel/xfrm"
	"github.com/ikegod/ikegod/kernel/xfrm/socket"
	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/transport/mux"
)

// openedMark is the bit of the mark that packets from the TUN have until they are forwarded or delivered, so that the kernel's policies let them pass.
var openedMark = kernel.Mark{Value: 1 << 30, Mask: 1 << 30}

// abilities puts what a kernel can do into what decides between the datapaths.
func abilities(r *probe.Report) kernel.Abilities {
	of := func(fs ...probe.Feature) kernel.Ability {
		var why []string
		for _, f := range r.Lacking(fs...) {
			text := f.Why()
			if f.Hint != "" {
				text += "; " + f.Hint
			}
			if !slices.Contains(why, text) { // IPv4 and IPv6 are often alike
				why = append(why, text)
			}
		}
		return kernel.Ability{OK: len(why) == 0, Why: strings.Join(why, "; ")}
	}
	esp, udp := []probe.Feature{probe.XFRM}, []probe.Feature{probe.UDPEncap}
	tcp := []probe.Feature{probe.TCPEncap}
	if r.IPv6 && r.Can(probe.TCPEncap) {
		tcp = append(tcp, probe.TCPEncap6)
	}
	if r.Can(probe.XFRM) {
		esp = append(esp, probe.ESP4)
		if r.IPv6 && r.Can(probe.ESP4) { // one reason is enough
			esp = append(esp, probe.ESP6)
		}
	}
	can := kernel.Abilities{
		ESP: of(esp...), UDP: of(udp...), TUN: of(probe.TUN), Marks: of(probe.NFT, probe.NFTGuard, probe.NFTSecpath), TCP: of(tcp...),
		Algorithms: of(probe.AESGCM, probe.AESCCM, probe.ChaCha20, probe.AESCBC, probe.SHA2_256, probe.SHA2_384, probe.SHA2_512, probe.SHA1),
	}
	if r.Findings[probe.TUN].Outcome == probe.Untried && can.TUN.Why != "" && r.Findings[probe.TUN].Said == "" {
		can.TUN = kernel.Ability{OK: true} // nobody has said no: it is tried when it is needed
	}
	if !can.ESP.OK { // what needs it was not tried, and has no reason of its own
		can.UDP, can.Algorithms = kernel.Ability{OK: true}, kernel.Ability{OK: true}
	}
	return can
}

// lacking is the algorithms that the kernel has said no to.
func lacking(r *probe.Report) suite.Lacking {
	out := suite.Lacking{Encr: map[iana.Encr]string{}, Integ: map[iana.Integ]string{}}
	why := func(f probe.Feature) (string, bool) {
		text := r.Findings[f].Why()
		if h := r.Findings[f].Hint; h != "" {
			text += "; " + h
		}
		return text, r.Findings[f].Outcome == probe.No
	}
	for f, e := range map[probe.Feature]iana.Encr{
		probe.AESGCM: iana.ENCR_AES_GCM_16, probe.AESCCM: iana.ENCR_AES_CCM_16, probe.ChaCha20: iana.ENCR_CHACHA20_POLY1305,
	} {
		if text, lacks := why(f); lacks {
			out.Encr[e] = text
		}
	}
	for f, i := range map[probe.Feature]iana.Integ{
		probe.SHA1: iana.AUTH_HMAC_SHA1_96, probe.SHA2_256: iana.AUTH_HMAC_SHA2_256_128, probe.SHA2_384: iana.AUTH_HMAC_SHA2_384_192,
		probe.SHA2_512: iana.AUTH_HMAC_SHA2_512_256,
	} {
		if text, lacks := why(f); lacks {
			out.Integ[i] = text
		}
	}
	// AES-CBC is tried with an integrity algorithm each time, and it may be that one which is missing.
	withCBC := []probe.Feature{probe.AESCBC, probe.SHA2_256, probe.SHA2_384, probe.SHA2_512, probe.SHA1}
	if text, lacks := why(probe.AESCBC); lacks && !slices.ContainsFunc(withCBC, func(f probe.Feature) bool { _, no := why(f); return !no }) {
		out.Encr[iana.ENCR_AES_CBC] = text
	}
	return out
}

// probeKernel finds out what this kernel can do, and what that leads to; asker is as for kernel.Choose.
func probeKernel(backend, asker string) (*probe.Report, kernel.Abilities, kernel.Choice, error) {
	b, err := kernel.ParseBackend(backend)
	if err != nil {
		return nil, kernel.Abilities{}, kernel.Choice{}, err
	}
	r := probe.Run()
	can := abilities(r)
	c, err := kernel.Choose(b, can, asker)
	return r, can, c, err
}

// eventSwitch leads the events of a datapath to whoever is to have them, which is known after it has started.
type eventSwitch struct {
	to atomic.Pointer[func(kernel.Event)]
}

func (s *eventSwitch) lead(to func(kernel.Event)) { s.to.Store(&to) }

func (s *eventSwitch) event(e kernel.Event) {
	if to := s.to.Load(); to != nil {
		(*to)(e)
	}
}

// choose probes the kernel, says once what it found, and starts the kernel's half of the datapath where there is to be one: it says what the sockets have to be like.
// With auto, what does not start is done without.
func (d *daemon) choose(asker string, events func(kernel.Event)) error {
	say := func(text string) { d.z.Info(text, zap.String(keyPart, "kernel")) }
	report, can, choice, err := probeKernel(d.settings.Backend, asker)
	if report == nil {
		return err
	}
	say(fmt.Sprintf("%s (tried in %s)", report.Summary(), report.Took.Round(time.Millisecond)))
	for _, s := range report.Surprises() {
		say(s)
	}
	if err != nil {
		return err
	}
	d.can, d.choice = can, choice
	if choice.Shape == kernel.ShapeUserspace {
		return nil
	}
	d.xfrmEvents.lead(events)
	cfg := xfrm.Config{
		RunDir: d.settings.RunDir, Lacks: lacking(report), UDP: true, ESP: true, TCP: can.TCP.OK,
		Notice: func(text string) { d.z.Error(text, zap.String(keyPart, "datapath")) }, Left: d.left, Mark: d.settings.Mark,
	}
	if choice.Shape == kernel.ShapeSplit { // then there are routes to the TUN, which sealed packets must not take
		cfg.OutputMark = kernel.Mark{Value: d.settings.Mark, Mask: 0xffffffff}
	}
	dp, err := xfrm.New(cfg, d.xfrmEvents.event)
	if err != nil {
		if d.choice, err = choice.Instead(kernel.ShapeXFRM, err, can); err == nil {
			d.z.Warn(d.choice.Why+"; ikegod carries ESP itself", zap.String(keyPart, "datapath"))
		}
		return err
	}
	d.xfrm = dp
	return nil
}

// carrier makes the datapath that the choice has led to, around the sockets.
func (d *daemon) carrier(listenUDP bool, events func(kernel.Event)) (err error) {
	if d.choice.Shape == kernel.ShapeXFRM {
		d.dp = d.xfrm
		return nil
	}
	if d.choice.Shape == kernel.ShapeUserspace {
		if d.user, err = d.userspace(listenUDP, events); err == nil {
			d.dp = d.user
			return nil
		}
	} else if err = d.split(events); err == nil {
		return nil
	}
	if d.choice, err = d.choice.Instead(kernel.ShapeUserspace, err, d.can); err != nil {
		return err
	}
	d.xfrmEvents.lead(events)
	d.dp = d.xfrm
	return nil
}

// split makes the userspace half and joins it with the kernel's. With an error the latter is as it was, but for who hears of it.
func (d *daemon) split(events func(kernel.Event)) (err error) {
	s := kernel.NewSplit(events, openedMark)
	if d.user, err = d.userspace(false, s.Event); err != nil {
		return err
	}
	d.xfrmEvents.lead(s.Event)
	if err := s.Join(d.xfrm, d.user); err != nil {
		err = errors.Join(err, d.user.Close())
		d.user = nil
		return err
	}
	d.dp = s
	return nil
}

// closeDatapath takes down what there is, also if there is only a part of it.
func (d *daemon) closeDatapath() {
	dp := d.dp
	if dp == nil {
		dp = d.xfrm
	}
	if dp == nil {
		return
	}
	if err := dp.Close(); err != nil {
		d.z.Error("taking the datapath down: " + err.Error())
	}
}

// userspace makes the userspace datapath. plain says that it is to carry plain ESP, if there are sockets for it.
func (d *daemon) userspace(plain bool, events func(kernel.Event)) (*userspace.Datapath, error) {
	s := d.settings
	newHost := func(tun string) (userspace.Host, error) {
		set := hostnet.Settings{Mark: s.Mark, Table: s.Table, Preference: s.Preference, RunDir: s.RunDir}
		if d.choice.Shape == kernel.ShapeSplit {
			set.Opened = openedMark
		}
		return hostnet.New(tun, set)
	}
	cfg := userspace.Config{
		NewHost: newHost, PlainESP: plain && d.mux.PlainESP() == nil, Notice: func(text string) { d.z.Error(text, zap.String(keyPart, "datapath")) },
	}
	if plain && !cfg.PlainESP {
		cfg.Notes = append(cfg.Notes, fmt.Sprintf("there is no plain ESP: ESP is always put into UDP or TCP, and encapsulation=no is not possible: %v", d.mux.PlainESP()))
	}
	return userspace.New(cfg, d.mux, events)
}

// asker is the first connection that asks for the userspace datapath, also one with auto=ignore, which `ikectl add` may load; empty: none does.
func asker(set *policy.Set) string {
	if set == nil {
		return ""
	}
	for _, c := range set.Connections {
		if c.Backend == policy.BackendUserspace {
			return c.Name
		}
	}
	return ""
}

// whyDatapath says why a Child SA of a connection is with one of two datapaths; where there is one, status says so for all.
func (d *daemon) whyDatapath() func(conn, datapath string) string {
	if d.choice.Shape != kernel.ShapeSplit {
		return func(string, string) string { return "" }
	}
	asked := map[string]string{}
	for _, s := range d.engine.Connections() {
		if s.Conn.Backend != policy.BackendAuto {
			asked[s.Name] = s.Conn.Where("backend")
		}
	}
	return func(conn, datapath string) string {
		switch {
		case asked[conn] != "":
			return asked[conn]
		case datapath == kernel.BackendUserspace.String():
			return "the kernel has no ESP in TCP"
		case datapath == kernel.BackendXFRM.String():
			return "the kernel can, and backend= says nothing else"
		}
		return ""
	}
}

// reqid is that of a policy in the kernel, zero if the kernel has no part in it.
func (d *daemon) reqid(id kernel.PolicyID) uint32 {
	if dp, ok := d.xfrm.(*xfrm.Datapath); ok {
		return dp.Reqid(id)
	}
	return 0
}

// left tells what an earlier daemon had left and what has become of it.
func (d *daemon) left(text string) { d.z.Warn(text, zap.String(keyPart, "datapath")) }

// sweep takes away what an earlier daemon left behind and the first policies have replaced, also of a datapath that this one does without. False: something is
// still there.
func (d *daemon) sweep() bool {
	of := func(text string, err error) error {
		if text != "" {
			d.left(text)
		}
		return err
	}
	var errs []error
	if d.user != nil {
		errs = append(errs, d.user.Sweep())
	} else {
		errs = append(errs, of(hostnet.SweepLeft(d.settings.RunDir)))
	}
	if dp, ok := d.xfrm.(*xfrm.Datapath); ok {
		errs = append(errs, dp.Sweep())
		dp.RoutesChanged() // packets may have been led to a TUN that is gone
	} else {
		errs = append(errs, of(xfrm.SweepLeft(d.settings.RunDir)))
	}
	err := errors.Join(errs...)
	if err != nil && err.Error() != d.unswept { // once
		d.unswept = err.Error()
		d.left("what an earlier daemon left could not be taken away, which is tried again: " + d.unswept)
	}
	return err == nil
}

// routesChanged lets what follows the addresses and routes of this host do so.
func (d *daemon) routesChanged() {
	d.engine.AddressesChanged()
	if dp, ok := d.xfrm.(*xfrm.Datapath); ok {
		dp.RoutesChanged()
	}
}

// socketsFor says what the sockets have to be like: where the kernel carries ESP, IKE goes past its policies, and ESP that arrives stays there.
func (d *daemon) socketsFor(o *mux.Options) {
	o.PlainESP = d.choice.Shape == kernel.ShapeUserspace
	if o.PlainESP {
		return
	}
	o.Prepare, o.EncapUDP = socket.Chain(o.Prepare, socket.Bypass), socket.EncapUDP
	if d.can.TCP.OK {
		o.AttachTCP = socket.EspInTCP
	}
}

// notes are for the operator: what is missing and what it means, a sentence each.
func (d *daemon) notes() []string {
	return slices.Concat(d.choice.Notes, d.dp.Features().Notes, systemNotes())
}

// systemNotes are about settings of this host that every datapath meets.
func systemNotes() []string {
	if note := probe.FlowLabels(); note != "" {
		return []string{note}
	}
	return nil
}

// ctlDoctor puts a report and a choice into the words of the control protocol.
func ctlDoctor(r *probe.Report, c kernel.Choice) ctl.Doctor {
	out := ctl.Doctor{
		Kernel: r.Release, Backend: c.Backend.String(), Datapath: c.Shape.String(), Why: c.Why, Notes: slices.Concat(c.Notes, systemNotes()), Findings: []ctl.Finding{}, StrictRP: r.StrictRP, InPlace: r.InPlace,
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, ctl.Finding{Feature: f.Feature.String(), Outcome: f.Outcome.String(), Said: f.Said, Means: f.Means, Hint: f.Hint})
	}
	return out
}
