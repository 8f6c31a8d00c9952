{{- define "forebay.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "forebay.selector" -}}
app.kubernetes.io/name: forebay
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "forebay.labels" -}}
{{ include "forebay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "forebay.secret" -}}
{{- .Values.existingSecret | default (printf "%s-keys" (include "forebay.name" .)) }}
{{- end }}

{{/* Whether the spool has a volume that outlives its pod. */}}
{{- define "forebay.persistent" -}}
{{- if and .Values.spool.enabled .Values.spool.persistence.enabled (eq .Values.mode "concentrator") }}true{{ end }}
{{- end }}

{{- define "forebay.pod" -}}
metadata:
  labels:
    {{- include "forebay.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed configuration or key is a new pod.
    checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
    checksum/keys: {{ .Values.keys | toJson | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  automountServiceAccountToken: false
  # Variables that Kubernetes makes of services' names begin with FOREBAY_, too.
  enableServiceLinks: false
  # preStop, `shutdown_timeout`, and what a process needs to end.
  terminationGracePeriodSeconds: {{ add .Values.shutdownTimeoutSeconds 15 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: forebay
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run, -c, /etc/forebay/config, --log-format, json]
      env:
        # Where `intake_key_file: NAME` is looked for.
        - {name: CREDENTIALS_DIRECTORY, value: /etc/forebay/keys}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- range .Values.service.ports }}
        - {name: {{ .name }}, containerPort: {{ .target }}, protocol: {{ .protocol }}}
        {{- end }}
        - {name: admin, containerPort: 9514, protocol: TCP}
      # A large spool is read through when the process before it was killed.
      startupProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 2
        failureThreshold: 300
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      lifecycle:
        # So long load balancers may go on sending to a pod that is to end.
        preStop:
          sleep: {seconds: 5}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/forebay/config, readOnly: true}
        - {name: keys, mountPath: /etc/forebay/keys, readOnly: true}
        {{- if .Values.tlsSecret }}
        - {name: tls, mountPath: /etc/forebay/tls, readOnly: true}
        {{- end }}
        {{- if .Values.spool.enabled }}
        - {name: spool, mountPath: /var/lib/forebay}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "forebay.name" . }}}
    - name: keys
      secret: {secretName: {{ include "forebay.secret" . }}, defaultMode: 0440}
    {{- if .Values.tlsSecret }}
    - name: tls
      secret: {secretName: {{ .Values.tlsSecret }}, defaultMode: 0440}
    {{- end }}
    {{- if and .Values.spool.enabled (not (include "forebay.persistent" .)) }}
    - name: spool
      emptyDir: {sizeLimit: {{ .Values.spool.persistence.size }}}
    {{- end }}
  {{- if .Values.affinity }}
  affinity:
    {{- toYaml .Values.affinity | nindent 4 }}
  {{- else if eq .Values.mode "concentrator" }}
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "forebay.selector" . | nindent 16 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
