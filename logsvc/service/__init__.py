"""The composition roots: what each kind of process is made of, in which order it starts, and in which it stops.

development   `logsvc dev`: everything in one process, on a journal and the embedded engine
collect       `logsvc collect`: log files of one node to Kafka
store         `logsvc store`: Kafka to ClickHouse
serve         `logsvc serve`: the API
procfile      `logsvc procfile`: the processes of a Procfile, as a kubelet would run them, for another's collector
admin         `logsvc migrate`, `logsvc check`
"""
